"""Formats of weights files, each read without importing or calling anything that a file names."""
