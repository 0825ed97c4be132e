from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from tests.station.conftest import small_disk
from tests.training.conftest import Fitted
from zellige.core.errors import InputError
from zellige.models.patchcore import PatchCore
from zellige.training.checkpoint import load_checkpoint, save_checkpoint


@pytest.fixture
def path(fitted: Fitted, tmp_path: Path) -> Path:
    save_checkpoint(fitted.detector, tmp_path / "detector.safetensors")
    return tmp_path / "detector.safetensors"


def refusal(detector: PatchCore, path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_checkpoint(detector, path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_it_holds_tensors_alone_and_all_of_them(fitted: Fitted, path: Path) -> None:
    with safe_open(path, framework="pt") as stored:
        assert set(stored.keys()) == set(fitted.detector.state_dict())
        assert torch.equal(stored.get_tensor("banks.0.vectors"), fitted.detector.banks[0].vectors)


def test_missing(path: Path) -> None:
    assert "not found" in refusal(PatchCore(), path.with_name("other.safetensors"))


@pytest.mark.parametrize("content", [b"", b"\x80\x04 a pickle", b"\xff" * 400])
def test_no_checkpoint_at_all(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert "damaged or of another detector" in refusal(PatchCore(), path)


def test_truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])
    assert "damaged or of another detector" in refusal(PatchCore(), path)


def test_of_another_detector(path: Path) -> None:
    message = refusal(PatchCore(stages=[3]), path)
    assert "damaged or of another detector" in message
    assert "banks.0.center" in message


def test_a_full_disk_leaves_the_old_file(fitted: Fitted, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "20m") as disk:
        path = disk / "detector.safetensors"
        save_checkpoint(fitted.detector, path)
        before = path.read_bytes()
        (disk / "filler").write_bytes(b"x" * (20 * 2**20 - len(before) - 2**20))
        with pytest.raises(InputError, match=r"checkpoint .*: cannot be written \(.*\)") as caught:
            save_checkpoint(fitted.detector, path)
        assert "\n" not in str(caught.value)
        assert path.read_bytes() == before
        assert sorted(file.name for file in disk.iterdir()) == ["detector.safetensors", "filler"]
