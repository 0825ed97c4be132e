"""Layer 3: fit and predict."""
