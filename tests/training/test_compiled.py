from pathlib import Path

import pytest
import torch
import torch._inductor.config  # not an attribute of torch before

from tests.training.conftest import Fitted
from zellige.core.errors import ConfigError
from zellige.training.compiled import compiled_embed


def test_without_the_setting_nothing_is_compiled(fitted: Fitted) -> None:
    with compiled_embed(fitted.detector, is_wanted=False, fabric=fitted.fabric):
        assert "embed" not in vars(fitted.detector)


def test_features_are_the_same_and_the_detector_is_plain_afterwards(
    fitted: Fitted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With torch's compiler that makes no machine code: what is tested is what is handed to it."""
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function: real(function, backend="eager"))
    images = torch.randint(0, 256, (3, 1, 64, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    with torch.inference_mode():
        plain = fitted.detector.embed(images)
        with compiled_embed(fitted.detector, is_wanted=True, fabric=fitted.fabric):
            assert "embed" in vars(fitted.detector)
            compiled = fitted.detector.embed(images)
    assert "embed" not in vars(fitted.detector)
    assert len(compiled) == len(plain)
    for one, other in zip(compiled, plain, strict=True):
        torch.testing.assert_close(one, other)


def test_no_compiler_is_one_line(fitted: Fitted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))  # nothing was compiled before
    with (
        torch._inductor.config.patch({"cpp.cxx": (None, str(tmp_path / "none")), "fx_graph_cache": False}),
        pytest.raises(ConfigError, match=r"engine.compile: expected a C\+\+ compiler that works") as caught,
        compiled_embed(fitted.detector, is_wanted=True, fabric=fitted.fabric),
    ):
        pytest.fail("it compiled")
    assert "\n" not in str(caught.value)
    assert "embed" not in vars(fitted.detector)
