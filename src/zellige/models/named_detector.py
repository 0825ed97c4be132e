"""A detector that learned from good images alone, and a head that names what it finds; score and map stay as they are.

The head looks at the features that the detector has of an image already: there is no second pass through the backbone.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zellige.core.errors import ConfigError
from zellige.models.detector import Features, NamedOutput, PatchDetector
from zellige.models.kind_head import KindHead
from zellige.models.kind_names import check_kinds


class NamedDetector(nn.Module):
    """Finds as the detector that it is made from, and names."""

    def __init__(self, *, detector: nn.Module, kinds: Sequence[str], least_confidence: float = 0.3) -> None:
        """Put a head that knows no kind yet onto a detector.

        Args:
            detector: what finds.
            kinds: names of the kinds of defects, at least two.
            least_confidence: a kind that is less probable is not said.

        Raises:
            ConfigError: a detector that names already or has no patch features, a setting out of range.
        """
        super().__init__()
        name = type(detector).__name__
        if not isinstance(detector, PatchDetector) or hasattr(detector, "kinds"):
            raise ConfigError(f"names: expected a detector that learns from good images and names nothing, got {name}")
        self.kinds = check_kinds(kinds, least_confidence)
        if len(self.kinds) < 2:
            raise ConfigError(f"kinds: expected at least two to tell apart, got {', '.join(self.kinds) or 'none'}")
        self.detector = detector
        self.head = KindHead(detector.patch_widths, len(self.kinds), least_confidence)

    def look(self, images: Tensor) -> tuple[Features, NamedOutput]:
        """Give the patch features of uint8 images (B, C, H, W), and what `forward` says of them."""
        assert isinstance(self.detector, PatchDetector)
        features, size = self.detector.embed(images), images.shape[-2:]
        found = self.detector.score_features(features, size)
        patches = features[-len(self.detector.patch_widths) :]
        numbers = self.head(patches)  # (B, 1, h, w)
        kind_map = F.interpolate(numbers.float(), size=list(size), mode="nearest").to(torch.uint8)
        return patches, NamedOutput(anomaly_map=found.anomaly_map, score=found.score, kind_map=kind_map)

    def forward(self, images: Tensor) -> NamedOutput:
        """Score uint8 images (B, C, H, W); map and score are the detector's, to the bit, and no probabilities."""
        return self.look(images)[1]
