"""Run a verified bundle on frames, on a CPU, with ONNX Runtime alone: frame in, verdict out."""

import logging
import math
import os
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from zellige.core.boxes import join_boxes
from zellige.core.bundle import ModelBundle
from zellige.core.decision import decide
from zellige.core.errors import USER_ERRORS, BundleError, InputError, StationError
from zellige.core.named import KindMap, Named, frame_score
from zellige.core.tiling import Layout, join, join_kind_maps, lay_out
from zellige.core.types import AnomalyMap, Decision, Frame, PixelSize, Verdict

logger = logging.getLogger(__name__)

BATCH_SIZE = 1
"""Tiles per call of the net. On 1 and 2 cores larger batches of EfficientNet features were no faster (25 to 30 ms a
tile at 1, 2, 4, 8, 16), and the peak of memory on 16 MP grew from 342 to 408, 535 and 791 MB at 1, 2, 4, 8."""

_ANY = -1


class Runtime:
    """A bundle's model, ready to run; refuses a model whose inputs or outputs are not what the manifest says."""

    def __init__(self, bundle: ModelBundle, *, num_threads: int | None = None) -> None:
        """Load the model.

        Args:
            bundle: a verified bundle (`core.bundle.read_bundle`).
            num_threads: threads that compute; None takes the CPUs that this process may use.

        Raises:
            BundleError: ONNX Runtime refuses the model, or its inputs or outputs are not the manifest's.
        """
        self.bundle = bundle
        options = ort.SessionOptions()
        options.intra_op_num_threads = num_threads or len(os.sched_getaffinity(0))
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        # Threads that spin while they wait take the CPU from others: 40 instead of 28 ms a tile on a loaded machine.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self.session = ort.InferenceSession(bundle.model_onnx, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's own exception types, none of them public
            raise BundleError(
                f"bundle {bundle.id[:12]}: model.onnx: ONNX Runtime refuses it ({_line(error)})"
            ) from None
        given = {node.name for node in self.session.get_outputs()} if bundle.manifest.kinds else set()
        self._third = next((name for name in ("kind_map", "boxes") if name in given), None)
        self._outputs = ["anomaly_map", "score", *([self._third] if self._third else [])]
        self._check_signature()

    @property
    def draws_boxes(self) -> bool:
        return self._third == "boxes"

    def run(self, frame: Frame) -> tuple[float, AnomalyMap, Named | None]:
        """Return a frame's score (the maximum over its tiles), its anomaly map (H, W) float32, and what is named.

        Higher = worse. The last is None where the model names no kinds.

        Raises:
            InputError: as `lay_out`.
            StationError: the net returned something else than its signature says.
        """
        scores, anomaly_map, named = self.run_tiles(self.lay_out(frame))
        return frame_score(scores, named), anomaly_map, named

    def lay_out(self, frame: Frame) -> Layout:
        """Lay out the tiles that the net sees of a frame.

        Raises:
            InputError: another number of channels or another pixel size than the bundle's, smaller than a tile, or
                not of a size that the bundle's ignore regions fit; without a template where the bundle compares (or
                with one where it does not), or with one that does not fit.
        """
        manifest = self.bundle.manifest
        num_channels = 1 if frame.pixels.ndim == 2 else 3
        if num_channels != manifest.color.num_channels:
            raise InputError(
                f"frame {frame.source_id}: expected {manifest.color.num_channels} channel(s), got {num_channels}"
            )
        if (frame.template is not None) != manifest.is_pair:
            wanted = "a template, got none" if manifest.is_pair else "no template, got one"
            raise InputError(f"frame {frame.source_id}: expected {wanted}")
        self.check_pixel_size(frame.pixel_size, f"frame {frame.source_id}")
        return lay_out(frame, manifest.geometry)

    def run_tiles(self, layout: Layout) -> tuple[list[float], AnomalyMap, Named | None]:
        """Return each tile's score, row by row, the map of a frame that is laid out, and what is named in it.

        Raises:
            StationError: the net returned something else than its signature says.
        """
        scores: list[float] = []
        third: list[NDArray[Any]] = []
        anomaly_map = join(self._maps(layout, scores, third), layout)
        return scores, anomaly_map, self._named(third, layout)

    def _named(self, third: list[NDArray[Any]], layout: Layout) -> Named | None:
        """Join the third output of the tiles."""
        kinds = self.bundle.manifest.kinds
        if self._third == "kind_map":
            return KindMap(numbers=join_kind_maps(third, layout), kinds=kinds)
        return join_boxes(np.stack(third), layout, kinds) if self._third == "boxes" else None

    def check_pixel_size(self, pixel_size: PixelSize | None, where: str) -> None:
        """Refuse a pixel size outside the bundle's tolerance.

        Raises:
            InputError: too far off, missing where the bundle is calibrated, or given where it is not.
        """
        expected, tolerance = self.bundle.manifest.pixel_size, self.bundle.manifest.pixel_size_tolerance
        if expected is None and pixel_size is None:
            return
        if expected is None or pixel_size is None:
            raise InputError(f"{where}: expected pixel size {size_in_words(expected)}, got {size_in_words(pixel_size)}")
        for actual, wanted in (
            (pixel_size.cross_web_mm, expected.cross_web_mm),
            (pixel_size.down_web_mm, expected.down_web_mm),
        ):
            if abs(actual - wanted) > tolerance * wanted:
                raise InputError(
                    f"{where}: expected pixel size {size_in_words(expected)} within {tolerance:.3g} of it, "
                    f"got {size_in_words(pixel_size)}"
                )

    def _maps(self, layout: Layout, scores: list[float], third: list[NDArray[Any]]) -> Iterator[AnomalyMap]:
        """Yield the map (h, w) of each tile and append each tile's score, and what its third output is."""
        height, width = layout.geometry.height, layout.geometry.width
        for start in range(0, len(layout.parts), BATCH_SIZE):
            batch = layout.stack(start, start + BATCH_SIZE)
            maps, batch_scores, *more = self.session.run(self._outputs, {"images": batch})
            if maps.shape != (len(batch), 1, height, width) or batch_scores.shape != (len(batch),):
                raise StationError(
                    f"model of bundle {self.bundle.id[:12]}: expected maps {(len(batch), 1, height, width)} and scores "
                    f"{(len(batch),)}, got {maps.shape} and {batch_scores.shape}"
                )
            shape = (len(batch), 1, height, width) if self._third == "kind_map" else (len(batch), _ANY, 6)
            if more and not _fits(more[0].shape, shape):
                raise StationError(
                    f"model of bundle {self.bundle.id[:12]}: expected {self._third} {_shape(shape)}, "
                    f"got {more[0].shape}"
                )
            scores.extend(batch_scores.tolist())
            third.extend(more[0][:, 0] if self._third == "kind_map" else more[0] if more else ())
            yield from maps[:, 0]

    def _check_signature(self) -> None:
        manifest = self.bundle.manifest
        size = (manifest.geometry.height, manifest.geometry.width)
        expected = {
            "images": ("tensor(uint8)", (None, manifest.num_channels, *size)),
            "anomaly_map": ("tensor(float)", (None, 1, *size)),
            "score": ("tensor(float)", (None,)),
            "kind_map": ("tensor(uint8)", (None, 1, *size)),
            "boxes": ("tensor(float)", (None, _ANY, 6)),
        }
        inputs, outputs = self.session.get_inputs(), self.session.get_outputs()
        names = "anomaly_map, score" + (" and kind_map or boxes" if manifest.kinds else "")
        is_mute = bool(manifest.kinds) and self._third is None
        if [n.name for n in inputs] != ["images"] or {n.name for n in outputs} != {*self._outputs} or is_mute:
            raise BundleError(
                f"bundle {self.bundle.id[:12]}: model.onnx: expected input images and outputs {names}; got "
                f"{', '.join(n.name for n in inputs)} and {', '.join(n.name for n in outputs)}"
            )
        for node in (*inputs, *outputs):
            kind, shape = expected[node.name]
            # A symbolic size of an output is checked when the net runs; the input's must be fixed, and its batch free.
            actual = tuple(n if isinstance(n, int) else None for n in node.shape)
            may_be_unknown = node.name != "images"
            fits = _fits(actual, shape, may_be_unknown=may_be_unknown)
            if node.type != kind or not fits:
                raise BundleError(
                    f"bundle {self.bundle.id[:12]}: model.onnx: {node.name}: expected {kind} {_shape(shape)}, "
                    f"got {node.type} {_shape(actual)}"
                )


def inspect(runtime: Runtime, frame: Frame) -> Verdict:
    """Decide on one frame. Whatever goes wrong with it makes it UNDECIDED with the reason, never ACCEPT."""
    return inspect_with_map(runtime, frame)[0]


def inspect_with_map(runtime: Runtime, frame: Frame) -> tuple[Verdict, AnomalyMap | None]:
    """Decide on one frame as `inspect` does; return its anomaly map (H, W) too, None where there is none."""
    start = time.perf_counter()
    manifest = runtime.bundle.manifest
    try:
        layout = runtime.lay_out(frame)
        scores, anomaly_map, named = runtime.run_tiles(layout)
        score = frame_score(scores, named)
        decision, defects, reason = decide(
            score,
            anomaly_map,
            manifest.calibration,
            pixel_size=frame.pixel_size,
            first_line=frame.first_line,
            named=named,
        )
        if layout.roi is not None and layout.roi.warning:
            reason += f"; {layout.roi.warning}"
    except Exception as error:
        logger.debug("frame %s is UNDECIDED", frame.source_id, exc_info=True)
        elapsed_ms = (time.perf_counter() - start) * 1000
        return undecided(runtime.bundle, frame.source_id, error, elapsed_ms), None
    verdict = Verdict(
        decision=decision,
        defects=defects,
        score=score,
        reason=reason,
        source_id=frame.source_id,
        bundle_id=runtime.bundle.id,
        elapsed_ms=(time.perf_counter() - start) * 1000,
    )
    return verdict, anomaly_map


def undecided(bundle: ModelBundle, source_id: str, error: Exception, elapsed_ms: float) -> Verdict:
    """Make the verdict on a frame that could not be inspected."""
    reason = _line(error) if isinstance(error, USER_ERRORS) else f"{type(error).__name__}: {_line(error)}"
    return Verdict(
        decision=Decision.UNDECIDED,
        defects=(),
        score=math.nan,
        reason=reason,
        source_id=source_id,
        bundle_id=bundle.id,
        elapsed_ms=elapsed_ms,
    )


def replay_golden(runtime: Runtime) -> None:
    """Run the bundle's golden frames: proof that this machine computes what the exporting one did.

    A score may differ by `score_tolerance` of the expected score, or of a thousandth of the reject score where that is
    larger (a score near zero has no scale of its own); of probabilities, whose scale is known, of 0.01.

    Raises:
        BundleError: a decision that differs, or a score that differs by more than the tolerance.
    """
    manifest = runtime.bundle.manifest
    for entry, frame in runtime.bundle.golden_frames():
        where = f"bundle {runtime.bundle.id[:12]}: golden frame {entry.member}"
        verdict = inspect(runtime, frame)
        if verdict.decision is not entry.decision:
            raise BundleError(
                f"{where}: expected {entry.decision}, got {verdict.decision} on this machine ({verdict.reason})"
            )
        least = 0.01 if manifest.kinds else 1e-3 * abs(manifest.calibration.reject_score)
        scale = max(abs(entry.score), least)
        if not abs(verdict.score - entry.score) <= manifest.score_tolerance * scale:
            raise BundleError(
                f"{where}: expected score {entry.score:.6g} within {manifest.score_tolerance:.2g} of it, "
                f"got {verdict.score:.6g} on this machine"
            )


def size_in_words(pixel_size: PixelSize | None) -> str:
    """Say a pixel size in words, cross-web before down-web.

    Example:
        >>> size_in_words(PixelSize(cross_web_mm=0.05, down_web_mm=0.1))
        '0.05 x 0.1 mm'
    """
    if pixel_size is None:
        return "none (uncalibrated)"
    return f"{pixel_size.cross_web_mm:g} x {pixel_size.down_web_mm:g} mm"


def _fits(actual: Sequence[int | None], shape: Sequence[int | None], *, may_be_unknown: bool = False) -> bool:
    """Whether a shape is the expected one, of which `_ANY` is any number."""
    return len(actual) == len(shape) and all(
        a == s or s == _ANY or (may_be_unknown and a is None) for a, s in zip(actual, shape, strict=True)
    )


def _shape(shape: Sequence[int | None]) -> str:
    return "(" + ", ".join("any" if n in (None, _ANY) else str(n) for n in shape) + ")"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:500]
