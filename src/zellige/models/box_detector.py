"""Boxes around defects in one image: a small pretrained backbone, a feature pyramid and a head without anchors.

The parts and their papers: `feature_pyramid` (FPN), `box_head` (FCOS with RTMDet's and TOOD's simplifications). For
defects that are labelled with boxes; all of the net learns, the backbone too.

Shapes: B tiles of H x W px; levels (B, width, h_i, w_i), the finest first.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from zellige.models.box_head import BoxHead, BoxObjective, Places, check_box_settings, to_output
from zellige.models.detector import BoxOutput
from zellige.models.feature_pyramid import FeaturePyramid, begin
from zellige.models.tuned_backbone import TunedBackbone


class BoxDetector(nn.Module):
    """A backbone that learns, a pyramid and a head."""

    needs_places: Literal[True] = True
    """Labels of whole images teach it nothing."""

    def __init__(
        self,
        *,
        kinds: Sequence[str] = (),
        backbone: str = "efficientnet_lite0",
        stages: Sequence[int] = (2, 3, 4),
        frozen_stages: int = 1,
        width: int = 64,
        depth: int = 2,
        overlap: float = 0.5,
        seed: int = 0,
    ) -> None:
        """Make a detector that has learned nothing of defects yet.

        Args:
            kinds: names of the kinds of defects; empty is one kind without a name.
            backbone, stages, frozen_stages: see `TunedBackbone`; each stage is a level that boxes are drawn on.
            width: channels of the pyramid and of the head, a multiple of 16.
            depth: convolutions of the head before the last one.
            overlap: of two boxes that overlap by more (intersection over union) the surer one stays.
            seed: of the first weights of pyramid and head.

        Raises:
            ConfigError: a setting out of range; see `TunedBackbone` too.
            InputError: see `TunedBackbone`.
        """
        super().__init__()
        self.kinds = check_box_settings(kinds, width=width, depth=depth, overlap=overlap)
        self.backbone = TunedBackbone(backbone, stages, frozen_stages)
        self.pyramid = FeaturePyramid(self.backbone.num_channels, width)
        self.head = BoxHead(num_kinds=max(1, len(self.kinds)), width=width, depth=depth, strides=self.backbone.strides)
        self.overlap, self.finest = overlap, min(self.backbone.strides)
        generator = torch.Generator().manual_seed(seed)
        begin(self.pyramid, generator)
        self.head.begin(generator)

    def objective(self) -> BoxObjective:
        """Make the loss that this detector is fitted by."""
        return BoxObjective(self)

    def look(self, images: Tensor) -> Places:
        """Say what each place of the grids sees in uint8 images (B, 1 or 3, H, W)."""
        places: Places = self.head(self.pyramid(self.backbone(images)))
        return places

    def forward(self, images: Tensor) -> BoxOutput:
        """Draw boxes in uint8 images (B, 1 or 3, H, W)."""
        return to_output(self.look(images), (int(images.shape[-2]), int(images.shape[-1])), self.overlap)
