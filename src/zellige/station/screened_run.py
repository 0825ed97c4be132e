"""Run the net on the tiles that the screen passes, and follow what it finds there into the tiles beside.

Within a frame a defect is as long as it is: where the map above the pixel threshold reaches a tile that the screen did
not pass, the net sees that tile too. So the screen decides whether a defect is looked at, not how large it is. On a
roll the next frame is reached the same way; the frame before is not gone back to.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from zellige.core.bundle import ModelBundle
from zellige.core.decision import decide
from zellige.core.errors import ConfigError, StationError
from zellige.core.named import FoundBoxes, KindMap
from zellige.core.screen import MEMBER, Screen, parse_screen, pick_tiles, shown_pixels
from zellige.core.screened_map import SCREENED, join_seen, reached_tiles
from zellige.core.tiling import KindNumbers, Layout, join_kind_maps
from zellige.core.types import AnomalyMap, Frame, Verdict
from zellige.station.runtime import Runtime, undecided


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SeenTiles:
    """What the net says of some tiles of a frame by their number in `layout`: scores, maps (h, w) and kinds (h, w).

    `kind_maps` is empty where the model names none.
    """

    layout: Layout
    scores: dict[int, float]
    maps: dict[int, AnomalyMap]
    kind_maps: dict[int, KindNumbers]

    def joined(self) -> AnomalyMap:
        """Join the maps to one of the frame's size, `SCREENED` where the net saw nothing."""
        return join_seen(self.maps, self.layout)

    def named(self, kinds: tuple[str, ...]) -> KindMap | None:
        """Join the kinds to a map of the frame's size, 0 where the net saw nothing; None where the model names none."""
        if not kinds:
            return None
        none = np.zeros((self.layout.geometry.height, self.layout.geometry.width), np.uint8)
        numbers = join_kind_maps((self.kind_maps.get(i, none) for i in range(len(self.layout.parts))), self.layout)
        return KindMap(numbers=numbers, kinds=kinds)


def screen_of(bundle: ModelBundle, *, is_wanted: bool, where: str) -> Screen | None:
    """Return the bundle's screen where it is wanted.

    Raises:
        ConfigError: wanted, and the bundle has none or compares with templates.
        BundleError: it is damaged.
    """
    if not is_wanted:
        return None
    if bundle.manifest.is_pair:
        raise ConfigError(f"{where}: expected a bundle that looks at images alone; a screen goes with no other")
    if MEMBER not in bundle.members:
        raise ConfigError(
            f"{where}: expected a bundle with a screen, got one without: train with screen=cells; the report says "
            "whether it was shown to lose too little"
        )
    screen = parse_screen(bundle.members[MEMBER], bundle.id[:12])
    screen.check_fits((0, screen.width_px or 0), bundle.manifest.color.num_channels, f"bundle {bundle.id[:12]}")
    return screen


def run_picked(runtime: Runtime, layout: Layout, picked: Iterable[int], *, left_out: Iterable[int] = ()) -> SeenTiles:
    """Run the net on some tiles of a frame, and on those that the regions found there reach.

    Args:
        runtime: the net.
        layout: of the frame.
        picked: numbers of the tiles.
        left_out: numbers of tiles that are not run, whatever reaches them.

    Raises:
        StationError: the net returned something else than its signature says, or it draws boxes.
    """
    threshold = runtime.bundle.manifest.calibration.pixel_threshold
    pending = list(picked)
    known = {*pending, *left_out}
    scores: dict[int, float] = {}
    maps: dict[int, AnomalyMap] = {}
    kind_maps: dict[int, KindNumbers] = {}
    while pending:
        number = pending.pop()
        (score,), found, named = runtime.run_tiles(_alone(layout, number))
        if isinstance(named, FoundBoxes):
            raise StationError("a screen goes with no model that draws boxes, which are not joined from single tiles")
        if named is not None:
            kind_maps[number] = named.numbers
        scores[number], maps[number] = score, found
        reached = [other for other in reached_tiles(found > threshold, number, layout) if other not in known]
        known.update(reached)
        pending += reached
    return SeenTiles(layout=layout, scores=scores, maps=maps, kind_maps=kind_maps)


def _alone(layout: Layout, number: int) -> Layout:
    """One tile of a layout as a layout of its own."""
    part, beside = layout.parts[number], layout.template_parts[number : number + 1]
    return replace(layout, parts=(part,), template_parts=beside, ys=(0,), xs=(0,), frame_size=part.shape[:2], roi=None)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Screened:
    """A verdict on a frame that was screened, and what it rests on."""

    verdict: Verdict
    anomaly_map: AnomalyMap | None
    """(H, W) float32; None where the frame could not be inspected."""
    num_tiles: int
    num_screened: int
    """Tiles that the net did not see."""


def inspect_screened(runtime: Runtime, screen: Screen, frame: Frame) -> Screened:
    """Decide on one frame as `runtime.inspect` does, with the net on the tiles that the screen passes.

    Where none is passed the frame is ACCEPT and has no score. Whatever goes wrong makes it UNDECIDED with the reason.
    """
    start = time.perf_counter()
    manifest = runtime.bundle.manifest
    try:
        layout = runtime.lay_out(frame)
        picked = pick_tiles(screen, shown_pixels(frame.pixels, layout), layout)
        seen = run_picked(runtime, layout, picked.nonzero()[0].tolist())
        anomaly_map = seen.joined()
        # Not max(): it passes over a NaN that is not the first.
        score = float(np.max([SCREENED, *seen.scores.values()]))
        decision, defects, reason = decide(
            score,
            anomaly_map,
            manifest.calibration,
            pixel_size=frame.pixel_size,
            first_line=frame.first_line,
            named=seen.named(manifest.kinds),
        )
        num_tiles, num_screened = len(layout.parts), len(layout.parts) - len(seen.maps)
        if not seen.maps:
            score, reason = float("nan"), f"screened: none of {num_tiles} tiles has an unusual cell"
        if layout.roi is not None and layout.roi.warning:
            reason += f"; {layout.roi.warning}"
    except Exception as error:  # as in `runtime.inspect`: the line goes on, and nothing is ACCEPT without evidence
        elapsed_ms = (time.perf_counter() - start) * 1000
        verdict = undecided(runtime.bundle, frame.source_id, error, elapsed_ms)
        return Screened(verdict=verdict, anomaly_map=None, num_tiles=0, num_screened=0)
    verdict = Verdict(
        decision=decision,
        defects=defects,
        score=score,
        reason=reason,
        source_id=frame.source_id,
        bundle_id=runtime.bundle.id,
        elapsed_ms=(time.perf_counter() - start) * 1000,
    )
    return Screened(verdict=verdict, anomaly_map=anomaly_map, num_tiles=num_tiles, num_screened=num_screened)
