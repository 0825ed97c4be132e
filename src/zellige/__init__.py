"""zellige: visual quality inspection for line cameras, from training images to verdicts beside the line."""

import os

# Read by the OpenMP runtime when torch is imported: threads that spin while they wait make a net five times slower
# on a machine where anything else runs, and gain nothing where nothing does.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
