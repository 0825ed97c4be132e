"""How to learn from labels: the settings of `trainer=supervised`, checked once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from zellige.core.errors import ConfigError
from zellige.data.painted_marks import NUM_TOUCHED, TONES
from zellige.data.supervised_tiles import CROPS, Drawing
from zellige.training.recipe import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisedRecipe:
    """How to learn; the settings of `trainer=supervised`. Those that are not explained here are in `Recipe`."""

    epochs: int = 40
    batch_size: int = 16
    accumulate: int = 1
    learning_rate: float = 3e-3
    backbone_rate: float = 0.1
    """Learning rate of the pretrained backbone, as a factor of the others'."""
    weight_decay: float = 1e-2
    schedule: str = "cosine"
    warmup_epochs: int = 1
    clip_norm: float | None = 5.0
    average: float = 0.0
    evaluate_every: int = 1
    patience: int | None = 10
    balance: float = 0.5
    """0: every training image is drawn alike; 1: every kind alike, good being one; see `SupervisedTiles.order`."""
    crops: str = "random"
    """Where training tiles lie in a larger image; see `SupervisedTiles.draw`."""
    crop_px: int | None = None
    """Side of the random crops; of the tile if not given. A net without a fixed size learns small defects sooner from
    small crops: of each it sees less that is good."""
    crop_zoom: float = 0.0
    """Every other random crop shows up to this share more or less and is brought to its size: products whose parts and
    defects vary in size, of which few sizes were seen."""
    crop_stretch: float = 0.0
    """The same crops show up to this share more of their height than of their width, or the other way."""
    opposites: Mapping[str, str] = field(default_factory=dict)
    """Kinds that become each other where dark and light change places, for products of two tones: every fourth tile is
    shown as a negative then. Boards: what is missing there is too much in the negative."""
    marks: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Kinds of light and dark marks on products of two tones beside their templates; see `MarkBook.paint`."""
    draws_per_image: int = 1
    """Tiles of an epoch, as a multiple of the training images."""
    num_workers: int = 0
    """Threads that read, cut and augment ahead; they change nothing but the time."""
    cache_mb: int = 2048
    """Most megabytes of decoded images kept in memory, per process."""
    seed: int = 0

    def __post_init__(self) -> None:
        self.steps()
        if self.crops not in CROPS:
            raise ConfigError(f"trainer.crops: expected one of {', '.join(CROPS)}, got {self.crops!r}")
        self._check_crop()
        for one, other in self.opposites.items():
            if self.opposites.get(other, one) != one or list(self.opposites.values()).count(other) > 1:
                raise ConfigError(f"trainer.opposites: expected each kind in one pair, got {other!r} in two")
        self._check_marks()
        for name, least in (("draws_per_image", 1), ("num_workers", 0)):
            if not least <= getattr(self, name) <= 1000:
                raise ConfigError(f"trainer.{name}: expected {least} to 1000, got {getattr(self, name)}")
        for name in ("balance", "backbone_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"trainer.{name}: expected 0 to 1, got {getattr(self, name)}")

    def _check_marks(self) -> None:
        if not self.marks:
            return
        if sorted(self.marks) != sorted(TONES):
            raise ConfigError(f"trainer.marks: expected {' and '.join(TONES)}, got {', '.join(self.marks)}")
        for tone, kinds in self.marks.items():
            if len(kinds) != NUM_TOUCHED:
                raise ConfigError(
                    f"trainer.marks.{tone}: expected {NUM_TOUCHED} kinds, of marks that touch no part of their tone, "
                    f"one and several, got {len(kinds)}"
                )

    def _check_crop(self) -> None:
        for name in ("crop_zoom", "crop_stretch"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"trainer.{name}: expected 0 to 1, got {getattr(self, name)}")
            if getattr(self, name) and self.crops != "random":
                raise ConfigError(f"trainer.{name}: expected trainer.crops=random with it, got {self.crops}")
        if self.crop_px is None:
            return
        if not 32 <= self.crop_px <= 4096 or self.crop_px % 32:
            raise ConfigError(f"trainer.crop_px: expected a multiple of 32 from 32 to 4096, got {self.crop_px}")
        if self.crops != "random":
            raise ConfigError(f"trainer.crop_px: expected trainer.crops=random with it, got {self.crops}")

    def drawing(self) -> Drawing:
        """How training tiles are drawn."""
        return Drawing(
            crops=self.crops,
            crop_px=self.crop_px,
            crop_zoom=self.crop_zoom,
            crop_stretch=self.crop_stretch,
            opposites=dict(self.opposites),
            marks={tone: list(kinds) for tone, kinds in self.marks.items()},
        )

    def steps(self) -> Recipe:
        """What the loop needs to know of this."""
        return Recipe(
            epochs=self.epochs,
            batch_size=self.batch_size,
            accumulate=self.accumulate,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            schedule=self.schedule,
            warmup_epochs=self.warmup_epochs,
            clip_norm=self.clip_norm,
            average=self.average,
            evaluate_every=self.evaluate_every,
            patience=self.patience,
            cache_mb=self.cache_mb,
            seed=self.seed,
        )
