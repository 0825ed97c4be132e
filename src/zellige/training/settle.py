"""The last step of a fit by gradient: units that a detector takes from good images that it did not learn from."""

from collections.abc import Iterator

import torch
from lightning_fabric import Fabric
from torch import nn

from zellige.models.detector import Features, SettlingDetector
from zellige.training.feature_tiles import FeatureTiles


def settle(detector: nn.Module, held_out: FeatureTiles, fabric: Fabric) -> None:
    """Let a `SettlingDetector` look at this process's good tiles of VAL; all processes end with the first one's units.

    Any other detector is left as it is.
    """
    if not isinstance(detector, SettlingDetector):
        return

    def features() -> Iterator[Features]:
        for batch, _ in held_out.in_order():
            yield batch

    with torch.no_grad():
        detector.settle(features())
        for buffer in detector.buffers():
            buffer.copy_(fabric.broadcast(buffer))
