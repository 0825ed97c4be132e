"""What a detector says of one split, kept on disk: any number of images, the memory of one."""

import hashlib
import math
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, cast, get_args

import numpy as np
from numpy.typing import NDArray

from zellige.core.errors import InputError
from zellige.core.named import Named
from zellige.core.types import AnomalyMap, Prediction, Sample
from zellige.evaluation.stored_predictions import Split, StoredScores, read_named, read_scores, write_named

__all__ = ["PredictionSet", "PredictionWriter", "Split"]

_SCORES = "scores.json"
_MAPS, _NAMED = "maps", "named"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PredictionSet:
    """The predictions of one split, in the order of its samples; maps are read from disk one at a time.

    `scores` is float64 (N,), higher = worse, read-only. `fingerprint` is a sha256 over the split's name and every
    id, score and map (and what names the kinds): two sets with the same fingerprint say the same. `kinds` are those
    that the detector names, none where it names none.

    Example:
        >>> import tempfile
        >>> samples = [Sample(id="a", image_path=Path("a.png"), kind="good", group_id="roll 1")]
        >>> with tempfile.TemporaryDirectory() as folder, PredictionWriter(Path(folder) / "val", "val", samples) as w:
        ...     w.write("a", 0.25, np.full((2, 3), 0.25, np.float32))
        ...     predictions = w.close()
        ...     [(p.sample.id, p.score, p.anomaly_map.shape) for p in predictions]
        [('a', 0.25, (2, 3))]
    """

    folder: Path
    split: Split
    samples: tuple[Sample, ...]
    scores: NDArray[np.float64]
    fingerprint: str
    kinds: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Prediction]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> Prediction:
        """Read one prediction.

        Raises:
            InputError: its map was dropped, is damaged or is not a float32 (H, W) array.
        """
        sample = self.samples[index]
        place = range(len(self))[index]
        return Prediction(
            sample=sample,
            score=float(self.scores[index]),
            anomaly_map=_read_map(_map_path(self.folder, place), sample.id),
            named=read_named(_named_path(self.folder, place), self.kinds, sample.id) if self.kinds else None,
        )

    @property
    def is_defective(self) -> NDArray[np.bool_]:
        """(N,) bool: the label of each sample."""
        return np.array([sample.is_defective for sample in self.samples], dtype=bool)

    def drop_maps(self) -> None:
        """Free the disk: delete maps and kinds, keep ids, scores and fingerprint. What needs maps fails afterwards."""
        for name in (_MAPS, _NAMED):
            shutil.rmtree(self.folder / name, ignore_errors=True)

    @classmethod
    def load(cls, folder: Path, samples: Sequence[Sample]) -> Self:
        """Open predictions that a `PredictionWriter` closed.

        Args:
            samples: the split's samples, the same ids in the same order as were given to the writer.

        Raises:
            InputError: nothing there, damaged, or written for other samples.
        """
        path = folder / _SCORES
        stored = read_scores(path)
        ids = [sample.id for sample in samples]
        if stored.ids != ids:
            differing = len(set(stored.ids) ^ set(ids))
            detail = f"{differing} ids differ" if differing else "the same ids in another order"
            raise InputError(f"predictions {path}: expected the ids of the {len(ids)} samples given, got {detail}")
        scores = np.array(stored.scores, dtype=np.float64)
        scores.flags.writeable = False
        return cls(
            folder=folder,
            split=stored.split,
            samples=tuple(samples),
            scores=scores,
            fingerprint=stored.fingerprint(),
            kinds=tuple(stored.kinds),
        )


class PredictionWriter:
    """Write the predictions of one split into a folder that appears complete or not at all.

    Predictions may come in any order. Until `close` everything lies in a hidden sibling folder, which is removed on
    an error, an interrupt (when used in a `with` statement) or `discard`.

    Args:
        out_dir: a folder that does not exist yet.
        split: "val" or "test".
        samples: every sample of the split, each id once.
        kinds: those that the detector names; then every prediction says what it names.

    Raises:
        InputError: an unknown split, no samples, an id twice, `out_dir` exists or cannot be made.
    """

    def __init__(self, out_dir: Path, split: str, samples: Sequence[Sample], *, kinds: tuple[str, ...] = ()) -> None:
        if split not in get_args(Split):
            raise InputError(f"predictions {out_dir}: expected split val or test, got {split!r}")
        if not samples:
            raise InputError(f"predictions {out_dir}: expected samples of the {split} split, got none")
        self._index = {sample.id: index for index, sample in enumerate(samples)}
        if len(self._index) != len(samples):
            raise InputError(
                f"predictions {out_dir}: expected each id once, got {len(samples) - len(self._index)} repeated"
            )
        if out_dir.exists():
            raise InputError(f"predictions {out_dir}: expected a new folder, it exists")
        self._out_dir = out_dir
        self._partial = out_dir.with_name(f".{out_dir.name}.partial")
        self._split = cast(Split, split)
        self._samples = tuple(samples)
        self._scores: dict[int, float] = {}
        self._map_hashes: dict[int, str] = {}
        self._kinds = kinds
        self._named_hashes: dict[int, str] = {}
        shutil.rmtree(self._partial, ignore_errors=True)
        try:
            (self._partial / _MAPS).mkdir(parents=True)
            if kinds:
                (self._partial / _NAMED).mkdir()
        except OSError as error:
            raise InputError(f"predictions {out_dir}: cannot be written ({error.strerror})") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()

    def write(self, sample_id: str, score: float, anomaly_map: AnomalyMap, named: Named | None = None) -> None:
        """Store one prediction.

        Args:
            score: finite, higher = worse.
            anomaly_map: (H, W) float32 at the image's size, finite, higher = worse.
            named: what a detector that names says beside, of the writer's kinds.

        Raises:
            InputError: an unknown or repeated id, a score, map or boxes that are not finite, another shape or
                type, other kinds, a full disk. What was written so far is removed.
        """
        try:
            self._write(sample_id, score, anomaly_map, named)
        except OSError as error:
            self.discard()
            raise InputError(f"predictions {self._out_dir}: cannot be written ({error.strerror})") from None
        except InputError:
            self.discard()
            raise

    def close(self) -> PredictionSet:
        """Check that every sample has its prediction, and let the folder appear under its name.

        Raises:
            InputError: samples without a prediction, or a full disk. What was written is removed.
        """
        missing = [sample.id for index, sample in enumerate(self._samples) if index not in self._scores]
        if missing:
            self.discard()
            raise InputError(
                f"predictions {self._out_dir}: expected all {len(self._samples)} samples of the {self._split} split, "
                f"got {len(missing)} without a prediction, first {missing[0]}"
            )
        order = range(len(self._samples))
        stored = StoredScores(
            split=self._split,
            ids=[sample.id for sample in self._samples],
            scores=[self._scores[index] for index in order],
            map_hashes=[self._map_hashes[index] for index in order],
            kinds=list(self._kinds),
            named_hashes=[self._named_hashes[index] for index in order] if self._kinds else [],
        )
        try:
            (self._partial / _SCORES).write_text(stored.to_json(), encoding="utf-8")
            self._partial.replace(self._out_dir)
        except OSError as error:
            self.discard()
            raise InputError(f"predictions {self._out_dir}: cannot be written ({error.strerror})") from None
        return PredictionSet.load(self._out_dir, self._samples)

    def discard(self) -> None:
        """Remove what was written and not closed; does nothing after `close`."""
        shutil.rmtree(self._partial, ignore_errors=True)

    def _write(self, sample_id: str, score: float, anomaly_map: AnomalyMap, named: Named | None) -> None:
        where = f"prediction {sample_id}"
        index = self._index.get(sample_id)
        if index is None:
            raise InputError(f"{where}: expected an id of the {self._split} split, this one is unknown")
        if index in self._scores:
            raise InputError(f"{where}: expected once, got it twice")
        if anomaly_map.dtype != np.float32 or anomaly_map.ndim != 2 or anomaly_map.size == 0:
            raise InputError(f"{where}: expected a float32 map (H, W), got {anomaly_map.dtype} {anomaly_map.shape}")
        if not math.isfinite(score) or not np.isfinite(anomaly_map).all():
            raise InputError(f"{where}: expected a finite score and map, got NaN or infinity (score {score})")
        if (() if named is None else named.kinds) != self._kinds:
            raise InputError(f"{where}: expected the kinds {self._kinds or None}, got {named.kinds if named else None}")
        if named is not None:
            path = _named_path(self._partial, index)
            self._named_hashes[index] = write_named(path, named, sample_id, anomaly_map.shape)
        stored = np.ascontiguousarray(anomaly_map)
        np.save(_map_path(self._partial, index), stored, allow_pickle=False)
        self._scores[index] = float(score)
        self._map_hashes[index] = hashlib.sha256(repr(stored.shape).encode() + stored.tobytes()).hexdigest()


def _map_path(folder: Path, index: int) -> Path:
    return folder / _MAPS / f"{index:06d}.npy"


def _named_path(folder: Path, index: int) -> Path:
    return folder / _NAMED / f"{index:06d}.npy"


def _read_map(path: Path, sample_id: str) -> AnomalyMap:
    try:
        anomaly_map = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise InputError(
            f"prediction {sample_id}: expected its map in {path}, it was dropped or never written"
        ) from None
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"prediction {sample_id}: map {path} is damaged ({error})") from None
    if anomaly_map.dtype != np.float32 or anomaly_map.ndim != 2:
        raise InputError(f"prediction {sample_id}: expected a float32 map (H, W) in {path}, got {anomaly_map.dtype}")
    return np.asarray(anomaly_map, np.float32)
