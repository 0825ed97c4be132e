"""Layer 2: from files to samples, splits and tiles."""
