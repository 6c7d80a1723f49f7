"""Names to networks: the catalogue of backbones, what each is made of, and the preprocessing it owns."""
