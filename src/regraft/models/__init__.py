"""What is trained: a backbone and a head as one module of torch, and which of its parts learn."""
