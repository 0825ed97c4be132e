"""Layer 4: from a fitted detector to a bundle that a station accepts."""
