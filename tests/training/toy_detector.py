"""A detector with two weights that a trainer's arithmetic can be checked with by hand."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from zellige.models.detector import DetectorOutput, Features, Targets


class Toy(nn.Module):
    """Score = weight x mean brightness (0 to 1) + bias."""

    def __init__(self, *, noise: float = 0.0, break_at: int | None = None, break_slope: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.0))
        self.bias = nn.Parameter(torch.tensor(0.0))
        self.noise = noise
        self.break_at = break_at
        self.break_slope = break_slope
        self.num_embedded = 0
        self.num_measured = 0
        self.seen: list[tuple[float, bool, bool]] = []
        """Brightness, is_defective and has_mask of every tile that a loss was taken of in training, in order."""

    def embed(self, images: Tensor) -> Features:
        self.num_embedded += len(images)
        return (images.float().mean((1, 2, 3)).view(-1, 1, 1, 1) / 256,)

    def measure(self, features: Iterable[Features]) -> None:
        self.num_measured = sum(len(batch[0]) for batch in features)

    def objective(self) -> "ToyObjective":
        return ToyObjective(self)

    def forward(self, images: Tensor) -> DetectorOutput:
        score = self.weight * self.embed(images)[0].view(-1) + self.bias
        return DetectorOutput(anomaly_map=score.view(-1, 1, 1, 1).expand(-1, 1, *images.shape[2:]), score=score)


class SettlingToy(Toy):
    """Takes the brightest of the images that it is settled on as its unit."""

    unit: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("unit", torch.zeros(()))
        self.settled_on: list[int] = []
        self.bias_then = float("nan")

    def settle(self, features: Iterable[Features]) -> None:
        self.settled_on = [round(256 * level) for batch in features for level in batch[0].flatten().tolist()]
        self.bias_then = self.bias.item()
        self.unit = torch.tensor(float(max(self.settled_on)))


class ToyObjective(nn.Module):
    """Half the mean squared error of the score, with noise on the brightness that the seed decides."""

    def __init__(self, detector: Toy) -> None:
        super().__init__()
        self.detector = detector
        self.num_steps = 0

    def forward(self, features: Features, targets: Targets, seed: int) -> Tensor:
        toy = self.detector
        brightness = features[0].view(-1)
        if self.training:
            self.num_steps += 1
            toy.seen += list(
                zip(brightness.tolist(), targets.is_defective.tolist(), targets.has_mask.tolist(), strict=True)
            )
        noise = torch.randn(brightness.shape, generator=torch.Generator().manual_seed(seed)) * toy.noise
        score = toy.weight * (brightness + noise) + toy.bias
        loss = (score - targets.is_defective.float()).square().mean() / 2
        if self.num_steps == toy.break_at:
            # The second is finite itself, and the slope of a root at zero is not.
            return loss * float("nan") if not toy.break_slope else loss + (toy.weight * 0).abs().sqrt()
        return loss
