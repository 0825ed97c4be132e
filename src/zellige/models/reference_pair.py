"""Boxes around what is wrong in an image beside its template: a small net that sees both and their difference.

Both images go through the same first convolutions. What they differ in is learned, and forgives a misregistration of
two pixels: a feature of the image counts as extra only as far as it exceeds the highest of the template's in a window
of 3 x 3 places of 2 px, and as missing only as far as it falls below the lowest. So an edge that lies one or two pixels
beside the template's makes no difference, and a defect of any contrast does. Both images' own features go on too: what
kind a defect is depends on the pattern around it, and what the windows forgive is not lost. The windows are a max-pool
each; a correlation of all shifts, as in Dosovitskiy et al., "FlowNet", ICCV 2015, arXiv:1504.06852, section 3, would
cost nine times as much memory traffic. The set and its protocol: Tang et al., "Online PCB Defect Detector On A New PCB
Defect Dataset", arXiv:1902.06197; that paper's net pools groups of features of the pair and has an anchor head, here
are a pyramid and the head of `box_head`.

No weights of others: a net of ImageNet knows nothing of differences, and its first layers would be most of the cost.

Shapes: B pairs of H x W px, C channels each; features are of stride 2, 4, 8 and 16.
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zellige.core.errors import InputError
from zellige.models.box_head import BoxHead, BoxObjective, Places, check_box_settings, to_output
from zellige.models.detector import BoxOutput, ScaledInput
from zellige.models.feature_pyramid import FeaturePyramid, Residual, begin, conv_norm

_HALF = (0.5, 0.5, 0.5)
_STRIDE = 4
_WINDOW = 3


class ReferencePair(nn.Module):
    """A shared stem, a difference that forgives shifts, three levels of features, a pyramid and a fine head."""

    is_pair: Literal[True] = True

    needs_places: Literal[True] = True
    """Labels of whole images teach it nothing."""

    def __init__(
        self,
        *,
        kinds: Sequence[str] = (),
        width: int = 32,
        depth: int = 2,
        overlap: float = 0.5,
        seed: int = 0,
    ) -> None:
        """Make a detector that has learned nothing yet.

        Args:
            kinds: names of the kinds of defects; empty is one kind without a name.
            width: channels at stride 4, of the pyramid and of the head, a multiple of 16; stride 2 has half, 8 twice
                and 16 three times of it.
            depth: convolutions of the head before the last one.
            overlap: of two boxes that overlap by more (intersection over union) the surer one stays.
            seed: of the first weights.

        Raises:
            ConfigError: a setting out of range.
        """
        super().__init__()
        self.kinds = check_box_settings(kinds, width=width, depth=depth, overlap=overlap)
        self.scale = ScaledInput(_HALF, _HALF)
        # Without norms: image and template, each scaled on its own, could not be compared any more; and the noise of a
        # pair without a defect would be made as large as a defect.
        self.edges = nn.Sequential(nn.Conv2d(3, width // 2, 3, stride=2, padding=1), nn.ReLU())
        self.parts = conv_norm(width // 2, width, stride=2)
        self.changes = nn.Sequential(nn.Conv2d(width, width, 3, stride=2, padding=1), nn.ReLU())
        self.join = conv_norm(3 * width, width, size=1)
        self.middle = nn.Sequential(conv_norm(width, 2 * width, stride=2), Residual(2 * width))
        self.coarse = nn.Sequential(conv_norm(2 * width, 3 * width, stride=2), Residual(3 * width))
        self.pyramid = FeaturePyramid((width, 2 * width, 3 * width), width)
        self.head = BoxHead(num_kinds=max(1, len(self.kinds)), width=width, depth=depth, strides=(_STRIDE,))
        self.overlap, self.finest = overlap, _STRIDE
        generator = torch.Generator().manual_seed(seed)
        begin(self, generator)
        self.head.begin(generator)

    def objective(self) -> BoxObjective:
        """Make the loss that this detector is fitted by."""
        return BoxObjective(self)

    def look(self, images: Tensor) -> Places:
        """Say what each place sees in uint8 pairs (B, 2 C, H, W), the image's channels first, C being 1 or 3.

        Raises:
            InputError: another number of channels.
        """
        if images.shape[1] not in (2, 6):
            raise InputError(
                f"reference_pair: expected an image and its template, 2 or 6 channels, got {images.shape[1]}; "
                "give each image its template in the data set"
            )
        count = images.shape[0]
        both = torch.cat(images.chunk(2, dim=1))  # (2 B, C, H, W)
        edges = self.edges(self.scale(both).to(memory_format=torch.channels_last))  # (2 B, width / 2, H / 2, W / 2)
        parts = self.parts(edges)
        changes = self.changes(_differences(edges[:count], edges[count:]))
        fine = self.join(torch.cat([parts[:count], parts[count:], changes], dim=1))
        middle = self.middle(fine)
        levels = self.pyramid([fine, middle, self.coarse(middle)])
        places: Places = self.head(levels[:1])
        return places

    def forward(self, images: Tensor) -> BoxOutput:
        """Draw boxes in uint8 pairs (B, 2 C, H, W)."""
        return to_output(self.look(images), (int(images.shape[-2]), int(images.shape[-1])), self.overlap)


def _differences(image: Tensor, template: Tensor) -> Tensor:
    """What features (B, D, h, w) have more and less than the template's in a window: (B, 2 D, h, w), 0 or above."""
    highest = F.max_pool2d(template, _WINDOW, stride=1, padding=_WINDOW // 2)
    lowest = -F.max_pool2d(-template, _WINDOW, stride=1, padding=_WINDOW // 2)
    return torch.cat([F.relu(image - highest), F.relu(lowest - image)], dim=1)
