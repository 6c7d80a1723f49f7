"""Whole scenes of two dates to a map of what changed: windows in, blended tiles, map and polygons out."""
