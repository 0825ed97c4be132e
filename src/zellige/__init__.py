"""zellige: visual quality inspection for line cameras, from training images to verdicts beside the line."""

import os

# Read by the OpenMP runtime when torch is imported: how often a waiting thread looks before it sleeps. Threads that
# sleep at once slow a fit of many small products; threads that look for long slow everything where anything else runs.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

__version__ = "0.1.0"
