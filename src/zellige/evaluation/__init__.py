"""Layer 1: what stored predictions show: thresholds, rates with bounds, metrics, pictures. No torch."""
