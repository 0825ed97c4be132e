"""`engine.compile`: the frozen part of a detector through torch.compile, for the fit and the predictions of a run."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from zellige.core.errors import ConfigError


@contextmanager
def compiled_embed(detector: nn.Module, *, is_wanted: bool, fabric: Fabric) -> Iterator[None]:
    """Compile the detector's `embed` while the context lasts; what is exported afterwards is the plain detector.

    Raises:
        ConfigError: there is no compiler that works, or nothing to compile.
    """
    if not is_wanted:
        yield
        return
    if not hasattr(detector, "embed"):
        raise ConfigError(
            "engine.compile=true: expected a model with a part that does not learn, got one that learns as a whole"
        )
    _check_compiler(fabric.device)
    changed: Any = detector
    changed.embed = torch.compile(changed.embed)
    try:
        yield
    finally:
        del changed.embed


def _check_compiler(device: torch.device) -> None:
    """Compile something small: whether compiler, headers and libraries work together is not seen from their names."""
    try:
        torch.compile(_plus_one)(torch.zeros(4, device=device))
    except (RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"engine.compile: expected a C++ compiler that works (such as g++ with Python's headers), got: {reason}; "
            "install one or leave engine.compile=false"
        ) from None
    finally:
        torch.compiler.reset()


def _plus_one(values: torch.Tensor) -> torch.Tensor:
    return values + 1
