"""Overlaps, suppression, assignment and the loss against torchvision and slow versions written from the papers."""

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou, generalized_box_iou, nms, sigmoid_focal_loss

from zellige.models.box_assignment import NUM_PLACES, assign
from zellige.models.box_head import NUM_BOXES, Places, quality_focal, to_output
from zellige.models.boxes import generalized_iou, keep_best, pairwise_iou


def random_boxes(count: int, seed: int, *, spread: float = 100.0) -> torch.Tensor:
    """Boxes (count, 4) of 1 to 41 px; a small spread makes them overlap."""
    generator = torch.Generator().manual_seed(seed)
    corner, sides = torch.rand((2, count, 2), generator=generator)
    return torch.cat([corner * spread, corner * spread + 1 + 40 * sides], dim=1)


def test_overlaps_are_torchvisions() -> None:
    first, second = random_boxes(30, 0), random_boxes(20, 1)
    assert torch.allclose(pairwise_iou(first[None], second[None])[0], box_iou(first, second))
    theirs = generalized_box_iou(first[:20], second).diagonal()
    assert torch.allclose(generalized_iou(first[:20], second), theirs, atol=1e-6)


@pytest.mark.parametrize("spread", [5.0, 60.0, 400.0])
@pytest.mark.parametrize("overlap", [0.2, 0.5, 0.8])
def test_the_kept_boxes_are_those_of_greedy_suppression(spread: float, overlap: float) -> None:
    boxes = torch.stack([random_boxes(300, seed, spread=spread) for seed in range(4)])
    stays = keep_best(boxes, overlap)
    ranks = torch.arange(300, 0, -1).float()
    for tile, ours in zip(boxes, stays, strict=True):
        assert ours.nonzero()[:, 0].tolist() == sorted(nms(tile, ranks, overlap).tolist())


def slow_assign(
    probabilities: np.ndarray, boxes: np.ndarray, centers: np.ndarray, truth: np.ndarray, finest: float
) -> tuple[np.ndarray, np.ndarray]:
    """Certainty (A, K) and, per place, the index of its true box or -1, of one tile."""
    real = [row for row in truth if row[4] > 0]
    overlap = box_iou(torch.tensor(truth[: len(real), :4]), torch.tensor(boxes)).numpy()
    alignment = np.zeros(overlap.shape)
    for m, row in enumerate(real):
        for a, (x, y) in enumerate(centers):
            half_x, half_y = max((row[2] - row[0]) / 2, finest), max((row[3] - row[1]) / 2, finest)
            if abs(x - (row[0] + row[2]) / 2) < half_x and abs(y - (row[1] + row[3]) / 2) < half_y:
                alignment[m, a] = probabilities[a, int(row[4]) - 1] * max(overlap[m, a], 1e-3) ** 6
    asked = [set(np.argsort(-line, kind="stable")[:NUM_PLACES]) & set(np.flatnonzero(line)) for line in alignment]
    owner = np.full(len(centers), -1)
    for a in range(len(centers)):
        wanting = [m for m in range(len(real)) if a in asked[m]]
        if wanting:
            owner[a] = max(wanting, key=lambda m: overlap[m, a])
    certainty = np.zeros(probabilities.shape)
    for m, row in enumerate(real):
        own = np.flatnonzero(owner == m)
        if len(own):
            best = alignment[m, own].max()
            certainty[own, int(row[4]) - 1] = alignment[m, own] / best * overlap[m, own].max()
    return certainty, owner


@pytest.mark.parametrize("seed", range(4))
def test_assignment_is_the_slow_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    y, x = np.meshgrid(np.arange(4, 128, 8), np.arange(4, 128, 8), indexing="ij")
    centers = np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32)
    truth = np.zeros((2, 6, 5), np.float32)
    for tile, count in enumerate((5, 3)):
        corner = rng.uniform(0, 90, (count, 2))
        sides = rng.uniform(1, 45, (count, 2))  # narrower than a place too, and overlapping
        truth[tile, :count] = np.hstack([corner, corner + sides, rng.integers(1, 4, (count, 1))])
    sides = rng.uniform(2, 30, (2, len(centers), 4)).astype(np.float32)
    boxes = np.concatenate([centers - sides[..., :2], centers + sides[..., 2:]], axis=-1)
    probabilities = rng.uniform(0.05, 0.9, (2, len(centers), 3)).astype(np.float32)
    found = assign(*map(torch.from_numpy, (probabilities, boxes, centers, truth)), 8)
    for tile in range(2):
        certainty, owner = slow_assign(probabilities[tile], boxes[tile], centers, truth[tile], 8)
        assert found.certainty[tile].numpy() == pytest.approx(certainty, rel=1e-4, abs=1e-6)
        is_owned = owner >= 0
        assert is_owned.sum() > NUM_PLACES
        assert found.boxes[tile].numpy()[is_owned] == pytest.approx(truth[tile, owner[is_owned], :4])


def test_a_tile_without_boxes_has_no_certain_place() -> None:
    found = assign(torch.full((1, 16, 2), 0.5), torch.rand(1, 16, 4), torch.rand(16, 2), torch.zeros(1, 1, 5), 4)
    assert not found.certainty.any()


def test_quality_focal_loss_of_hard_labels_is_the_focal_loss() -> None:
    logits = torch.linspace(-6, 6, 25)
    for label in (0.0, 1.0):
        goal = torch.full_like(logits, label)
        theirs = sigmoid_focal_loss(logits, goal, alpha=-1, gamma=2)
        assert torch.allclose(quality_focal(logits, goal), theirs, atol=1e-6)
    soft = torch.tensor(0.7)
    assert quality_focal(torch.logit(soft), soft) == pytest.approx(0.0, abs=1e-9)  # sure as it should be


def test_boxes_are_clipped_ranked_suppressed_and_filled_up() -> None:
    drawn = torch.tensor([[-5.0, -5, 10, 10], [-5, -5, 10, 11], [20, 20, 90, 30], [40, 40, 44, 44]])
    logits = torch.tensor([[2.0, -9], [-9, 3.0], [-9, 1.0], [-9, -9]])
    output = to_output(Places(logits[None], drawn[None], torch.zeros(4, 2), ((2, 2),)), (48, 64), 0.5)
    assert output.boxes.shape == (1, NUM_BOXES, 6)
    first, second = torch.logit(output.boxes[0, :2, 4]).tolist()
    assert (first, second) == (pytest.approx(3.0, rel=1e-4), pytest.approx(1.0, rel=1e-4))
    assert output.boxes[0, :2, :4].tolist() == [[0, 0, 10, 11], [20, 20, 64, 30]]
    assert output.boxes[0, :2, 5].tolist() == [2, 2]
    assert not output.boxes[0, 2:].any()
    assert output.score[0] == output.boxes[0, 0, 4]
    assert output.anomaly_map.shape == (1, 1, 48, 64)
    assert output.anomaly_map.amax() == pytest.approx(float(output.score[0]), rel=1e-5)
