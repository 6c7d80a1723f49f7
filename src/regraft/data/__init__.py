"""What the user's images are: manifest, readers, splits, the decoder. Knows nothing of networks."""
