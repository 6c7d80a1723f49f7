"""What training makes small: losses of logits, pure functions of tensors."""
