"""Training end to end: one loop for whatever is learnt by back-propagation, and what it needs around it."""
