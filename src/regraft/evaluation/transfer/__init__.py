"""How well features suit labels, told without training a network: one score a file, and ranks with intervals."""
