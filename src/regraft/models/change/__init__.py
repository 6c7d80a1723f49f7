"""Networks that tell what changed between two dates."""
