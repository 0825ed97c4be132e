"""The loss of the segmenter."""

import pytest
import torch
import torch.nn.functional as F

from zellige.models.detector import KindTargets
from zellige.models.segmenter import Segmenter, pixel_loss


def test_good_tiles_add_to_the_pixel_loss_what_is_found_on_them_alone() -> None:
    """Dice of a good tile is 1 whatever is found on it: a batch of good tiles is worth its cross-entropy."""
    logits = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(0))
    masks = torch.zeros(3, 8, 8, dtype=torch.bool)
    known = torch.tensor([True, True, False])
    of_good = F.binary_cross_entropy_with_logits(logits[:2], torch.zeros(2, 8, 8))
    assert pixel_loss(logits, masks, known).item() == pytest.approx(of_good.item(), abs=1e-6)
    masks[1, 2:5, 3:7] = True
    crossed = F.binary_cross_entropy_with_logits(logits[:2], masks[:2].float())
    found, target = logits[1].sigmoid().double(), masks[1].double()
    dice = 1 - (2 * (found * target).sum() + 1) / (found.sum() + target.sum() + 1)
    assert pixel_loss(logits, masks, known).item() == pytest.approx((crossed + dice).item(), abs=1e-6)


def test_the_loss_that_says_when_to_stop_knows_no_names() -> None:
    objective = Segmenter(kinds=("dent", "hole")).objective()
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    masks = torch.zeros(2, 64, 64, dtype=torch.uint8)
    masks[:, 10:30, 20:40] = 1

    def loss(kind: int) -> float:
        truth = KindTargets(
            kind_masks=masks * kind,
            has_mask=torch.tensor([True, True]),
            kind=torch.tensor([kind, kind]),
            boxes=torch.zeros(2, 1, 5),
            has_boxes=torch.tensor([False, False]),
        )
        with torch.no_grad():
            return float(objective(images, truth, 0))

    assert loss(1) != loss(2)
    objective.eval()
    assert loss(1) == loss(2)
