"""What the leaderboard measures on both sides, and what was asked for before anything was measured."""

from collections.abc import Mapping

PROTOCOLS = ("squashed", "real")
SEEDS = (0, 1, 2)
SQUASHED_MODELS = ("patchcore", "subspace", "padim", "super_simple_net", "efficient_ad")
REAL_MODELS = ("patchcore", "subspace")
"""At real scale only what needs no fixed place and is quick; each image is several tiles there."""
NO_SEED = ("subspace",)
"""Nothing is drawn in its fit: every seed gives the same detector, so one is enough."""
SLOW_MODELS: Mapping[str, tuple[str, ...]] = {"efficient_ad": ("magnetic_tile", "steel", "cookies")}
"""Models that are fitted on some sets only, for the hours that they take."""
SQUASHED_ONLY = ("x_sdd", "cookies")
"""Smaller than a tile, where there is nothing to gain, and one large object that fills the image."""

PEER_EPOCHS = 60
"""Of the peer's supersimplenet, whose schedule follows it. On the magnetic tiles they took 44 minutes."""
PEER_FITS: Mapping[str, int] = {"padim": 3, "patchcore": 3, "supersimplenet": 1}
"""Fits of each of the peer's models on each set; they are not seeded."""
PEER_OPTIONS: Mapping[str, Mapping[str, float]] = {
    "padim": {"size": 256},
    "patchcore": {"size": 256, "coreset": 0.01},
    "supersimplenet": {"size": 256, "epochs": PEER_EPOCHS},
}
"""Of `bench_peer.py`, by the peer's model; results that were made with others are measured anew."""
COUNTERPARTS: Mapping[str, str] = {"patchcore": "patchcore", "padim": "padim", "super_simple_net": "supersimplenet"}
COSTS_SET = "magnetic_tile"
FULL_INPUT = 256
"""Side, px, of the squared input of both sides, but for `SMALLER_INPUTS`."""
SMALLER_INPUTS: Mapping[str, tuple[int, ...]] = {"patchcore": (192, 160), "padim": (192, 160)}
"""Inputs, px, at which the costs of one of our models are measured besides; the peer keeps the full one."""

ASKED_AUROC = 0.95
"""Image AUROC on the magnetic tiles, in both protocols."""
ASKED_FIT_RATIO: Mapping[str, float] = {"patchcore": 20.0}
ASKED_OTHER_FIT_RATIO = 3.0
"""How many times longer the peer's fit takes; of the models that `ASKED_FIT_RATIO` does not name."""
ASKED_ANSWER_RATIO = 5.0
"""How many times longer the peer's OpenVINO inferencer takes from the file to the answer."""
ASKED_MEMORY_MB = 6000.0
ASKED_FIT_SECONDS: Mapping[str, float] = dict.fromkeys(("patchcore", "subspace", "padim"), 60.0)
"""On 100 images of 256 px."""


def models_for(name: str, protocol: str) -> tuple[str, ...]:
    """Our models that are fitted on a set by a protocol.

    Example:
        >>> models_for("cookies", "real"), models_for("fabric", "real")
        ((), ('patchcore', 'subspace'))
    """
    if protocol != "squashed":
        return () if name in SQUASHED_ONLY else REAL_MODELS
    return tuple(model for model in SQUASHED_MODELS if name in SLOW_MODELS.get(model, (name,)))


def seeds_for(model: str) -> tuple[int, ...]:
    return SEEDS[:1] if model in NO_SEED else SEEDS
