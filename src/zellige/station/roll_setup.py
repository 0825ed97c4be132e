"""Read and check all that the inspection of a roll needs, before anything is written."""

from dataclasses import dataclass
from pathlib import Path

from zellige.core.bundle import read_bundle
from zellige.core.errors import ConfigError, InputError
from zellige.core.grading import GradingRules, read_rules
from zellige.core.manifest import Manifest
from zellige.core.screen import Screen
from zellige.core.types import GeometryMode, PixelSize
from zellige.station.camera_source import LiveCamera
from zellige.station.line_places import Counts, read_counts
from zellige.station.profile import RollProfile, read_profile
from zellige.station.roll_cameras import Roll, RollCameras, open_cameras
from zellige.station.roll_summary import Lanes, make_lanes
from zellige.station.runtime import Runtime, replay_golden
from zellige.station.screened_run import screen_of
from zellige.station.sources import RollSource


@dataclass(frozen=True, slots=True, kw_only=True)
class RollOptions:
    """How to run. `real_time` replays at the profile's line rate; `counts` are the encoder's, one for each line.

    `screen` asks for the bundle's screen, as `screen` of the profile does.
    """

    num_threads: int | None = None
    overwrite: bool = False
    real_time: bool = False
    counts: Path | None = None
    crops: bool = True
    screen: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RollSetup:
    """All that a roll needs, checked: bundle, cameras and recordings fit each other."""

    runtime: Runtime
    profile: RollProfile
    cameras: RollCameras
    pixel_size: PixelSize
    frame_height: int
    context: int
    counts: Counts | None
    rules: GradingRules | None
    lanes: Lanes
    screen: Screen | None = None

    @property
    def source(self) -> RollSource:
        """Where the lines come from."""
        return self.cameras.source


def prepare_roll(bundle: Path, roll: Roll, profile_path: Path | None, options: RollOptions) -> RollSetup:
    """Read and check; the golden frames are replayed last.

    Raises:
        BundleError: the bundle is not usable on this machine.
        ConfigError: the profile, the grading rules, or an option that needs something else, such as a screen.
        InputError: the recording, the flat field or the counts, or a pixel size that does not fit the bundle.
        StationError: a camera that is not there.
    """
    profile = RollProfile() if profile_path is None else read_profile(profile_path)
    where = "without a profile" if profile_path is None else f"profile {profile_path}"
    if options.real_time and profile.line_rate_hz is None:
        raise ConfigError(f"--real-time: {where}: expected line_rate_hz, got none")
    if isinstance(roll, LiveCamera) and (options.real_time or options.counts is not None):
        raise ConfigError("--camera: expected neither --real-time nor --counts, which belong to a recording")
    if isinstance(roll, LiveCamera) and profile.encoder is not None:
        raise ConfigError(
            f"--camera: {where}: expected no encoder, got one: the counts of a live camera are not read (chunk data); "
            "leave encoder out, lines are then one pixel apart"
        )
    if (options.counts is None) != (profile.encoder is None):
        raise ConfigError(f"--counts: {where}: expected --counts and encoder together, got one of them")
    runtime = Runtime(read_bundle(bundle), num_threads=options.num_threads)
    manifest = runtime.bundle.manifest
    if manifest.is_pair:
        raise InputError(f"bundle {bundle}: expected one that looks at images alone; a roll has no template")
    pixel_size = profile.pixel_size or manifest.pixel_size
    if runtime.draws_boxes:
        raise InputError(
            f"bundle {bundle}: expected a model with a map, of which the defects of a roll are put together; "
            f"got one that draws boxes of {', '.join(manifest.kinds)}"
        )
    if manifest.calibration.kind_rules:
        raise InputError(
            f"bundle {bundle}: expected no rules of kinds, which are not applied to the defects of a roll yet; got "
            f"{manifest.calibration.kind_rules[0]}"
        )
    if pixel_size is None or manifest.pixel_size is None:
        raise InputError(
            f"bundle {bundle}: expected a pixel size, a roll is measured in mm; got an uncalibrated bundle"
        )
    runtime.check_pixel_size(pixel_size, where)
    profile.check_encoder(pixel_size, where)
    frame_height, context = _frame_lines(manifest, profile, where)
    cameras = open_cameras(roll, profile, manifest, pixel_size, where)
    screen = screen_of(runtime.bundle, is_wanted=options.screen or profile.screen, where=where)
    _check_width(cameras, manifest, screen)
    setup = RollSetup(
        runtime=runtime,
        profile=profile,
        cameras=cameras,
        pixel_size=pixel_size,
        frame_height=frame_height,
        context=context,
        counts=None if options.counts is None else read_counts(options.counts),
        rules=None if profile.grading is None else read_rules(profile.grading),
        lanes=make_lanes(profile, width_px=cameras.row.width_px, cross_web_mm=pixel_size.cross_web_mm),
        screen=screen,
    )
    replay_golden(runtime)
    return setup


def _frame_lines(manifest: Manifest, profile: RollProfile, where: str) -> tuple[int, int]:
    """Height of a frame and its context: four tiles, and half of their overlap, as the joined map has between tiles."""
    geometry = manifest.geometry
    if geometry.mode is not GeometryMode.TILES:
        raise InputError(
            f"{where}: expected a bundle with geometry tiles, got {geometry.mode}: a roll cannot be resized"
        )
    height = profile.frame_height or geometry.height + 3 * (geometry.height - geometry.overlap_px)
    if height < geometry.height and not geometry.pad_small:
        raise ConfigError(f"{where}: frame_height: expected at least a tile, {geometry.height} lines, got {height}")
    context = geometry.overlap_px // 2 if profile.context_lines is None else profile.context_lines
    if 2 * context >= height:
        raise ConfigError(f"{where}: context_lines: expected less than half of the frame's {height}, got {context}")
    return height, context


def _check_width(cameras: RollCameras, manifest: Manifest, screen: Screen | None) -> None:
    """Refuse lines that are shorter than a tile, or that the screen says nothing about."""
    geometry = manifest.geometry
    for view in cameras.row.views:
        where = f"roll {cameras.source.name}" + (f": camera {view.name}" if view.name else "")
        if view.width_px < geometry.width and not geometry.pad_small:
            raise InputError(f"{where}: expected lines of at least a tile, {geometry.width} px, got {view.width_px}")
        if screen is not None:
            screen.check_fits((geometry.height, view.width_px), manifest.color.num_channels, where)
