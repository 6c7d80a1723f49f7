"""Weights files: read safely, match by name against a network, report what did not fit."""
