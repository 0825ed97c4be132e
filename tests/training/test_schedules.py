import pytest

from zellige.training.schedules import SCHEDULES, constant, cosine, step


@pytest.mark.parametrize(("progress", "expected"), [(0.0, 1.0), (1 / 3, 0.75), (0.5, 0.5), (2 / 3, 0.25), (1.0, 0.0)])
def test_cosine(progress: float, expected: float) -> None:
    assert cosine(progress) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("progress", "expected"), [(0.0, 1.0), (0.799, 1.0), (0.8, 0.4), (0.899, 0.4), (0.9, 0.16), (0.999, 0.16)]
)
def test_step(progress: float, expected: float) -> None:
    assert step(progress) == pytest.approx(expected)


def test_none_rises_and_all_begin_at_one() -> None:
    for schedule in SCHEDULES.values():
        values = [schedule(i / 100) for i in range(100)]
        assert values[0] == 1
        assert values == sorted(values, reverse=True)
        assert min(values) > 0
    assert constant(0.99) == 1
