"""Layer 1: the torch-free station: a bundle and frames in, verdicts out."""
