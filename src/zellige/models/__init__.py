"""Layer 2: detectors, one method a file."""
