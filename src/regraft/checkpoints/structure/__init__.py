"""Tensors to a network's places by order and shape alone, where names say nothing."""
