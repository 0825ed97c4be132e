"""Two detectors that name, of fixed weights: bright and dark spots on mid-gray, as a map of kinds and as boxes."""

import torch
from torch import Tensor, nn

from zellige.models.detector import BoxOutput, NamedOutput

KINDS = ("bright", "dark")
BRIGHT, DARK, WIDTH = 200.0, 60.0, 8.0


class _Spots(nn.Module):
    """The probability of each kind per pixel, from the mean of 3 x 3 pixels: one half at `BRIGHT` and at `DARK`."""

    def __init__(self, kinds: tuple[str, ...] = KINDS) -> None:
        super().__init__()
        self.kinds = kinds
        self.smooth = nn.Conv2d(1, 2, 3, padding=1, padding_mode="replicate")
        signs = torch.tensor([1.0, -1.0]).view(2, 1, 1, 1)
        with torch.no_grad():
            self.smooth.weight.copy_((signs / 9 / WIDTH).expand(2, 1, 3, 3))
            self.smooth.bias.copy_(torch.tensor([-BRIGHT, DARK]) / WIDTH)

    def probabilities(self, images: Tensor) -> Tensor:
        """(B, 2, H, W)."""
        return self.smooth(images.float()).sigmoid()


class SpotRegions(_Spots):
    def forward(self, images: Tensor) -> NamedOutput:
        best = self.probabilities(images).max(dim=1, keepdim=True)
        kind_map = ((best.indices + 1) * (best.values > 0.25)).to(torch.uint8)
        score = best.values.flatten(1).topk(9).values.mean(1)
        return NamedOutput(anomaly_map=best.values, score=score, kind_map=kind_map)


class SpotBoxes(_Spots):
    """One box per kind and tile: around all pixels above one half."""

    def forward(self, images: Tensor) -> BoxOutput:
        p = self.probabilities(images)
        x0, x1 = self._ends(p.amax(2) > 0.5)
        y0, y1 = self._ends(p.amax(3) > 0.5)
        score = p.amax((2, 3))
        number = torch.arange(1.0, 3.0, device=p.device).expand_as(score)
        boxes = torch.stack([x0, y0, x1, y1, score, number], dim=2) * (score > 0.5)[..., None]
        order = boxes[..., 4].topk(2).indices
        boxes = boxes.gather(1, order[..., None].expand(-1, -1, 6))
        return BoxOutput(anomaly_map=p.amax(1, keepdim=True), score=boxes[..., 4].amax(1), boxes=boxes)

    @staticmethod
    def _ends(is_inside: Tensor) -> tuple[Tensor, Tensor]:
        """First and last + 1 of the true places, (B, 2) each."""
        size = is_inside.shape[2]
        places = torch.arange(size, device=is_inside.device).float()
        first = torch.where(is_inside, places, float(size)).amin(2)
        return first, torch.where(is_inside, places + 1, 0.0).amax(2)
