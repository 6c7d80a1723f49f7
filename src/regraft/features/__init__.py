"""Frozen means computed once: runtimes, extraction and the content-addressed store of features."""
