"""A live camera as the source of a roll: complete frames are lines, every other entry of its record is a hole."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from zellige.core.errors import ConfigError
from zellige.core.types import Color
from zellige.station.camera_frames import CameraFrame, FrameStatus
from zellige.station.gige_camera import GigeCamera
from zellige.station.gige_stream import CameraSettings
from zellige.station.sources import Block, Hole, Lines, RollSource


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveCamera:
    """Which camera a roll comes from, and when the roll ends."""

    name: str | None = None
    """Id, serial, IP or MAC address; None is the first found."""
    settings: CameraSettings = field(default_factory=CameraSettings)
    num_frames: int | None = None
    """Entries of the camera's record that the roll has; None: until `is_ended`."""
    is_ended: Callable[[], bool] = lambda: False

    def __post_init__(self) -> None:
        if self.num_frames is not None and self.num_frames < 1:
            raise ConfigError(f"--frames: expected at least 1, got {self.num_frames}")

    def open(self, *, width_px: int | None, color: Color) -> RollSource:
        """Look whether the camera is there, and how wide and high its frames are; it starts with the first block.

        Args:
            width_px: what the profile says; None takes the camera's.
            color: what the bundle wants.

        Raises:
            ConfigError: a bundle in color: the cameras are read as 8-bit gray.
            StationError: no such camera, or one that refuses a setting.
        """
        if color.num_channels != 1:
            raise ConfigError(f"--camera: expected a bundle for gray lines, got one for {color}")
        settings = replace(self.settings, width_px=self.settings.width_px or width_px)
        with GigeCamera(self.name, settings) as camera:
            settings = replace(settings, width_px=camera.width_px, height_px=camera.height_px)
            width = camera.width_px
        if width_px not in (None, width):
            raise ConfigError(f"--camera: expected lines of {width_px} px (the profile's width_px), got {width} px")
        where = f"camera {self.name or '(first found)'}"
        counts: Counter[FrameStatus] = Counter()
        # A triggered camera may be silent: its web may stand still for hours.
        max_silence_s = None if settings.frame_rate_hz is None else max(2.0, 10 / settings.frame_rate_hz)

        def blocks() -> Iterator[Block]:
            counts.clear()
            with GigeCamera(self.name, settings, max_silence_s=max_silence_s) as camera:
                for entry in camera.frames(self.is_ended):
                    counts[entry.status] += 1
                    yield _to_block(entry)
                    if counts.total() == self.num_frames:
                        return

        def notes() -> tuple[str, ...]:
            return (f"{where}: {', '.join(f'{counts[status]} {status}' for status in FrameStatus)} frames",)

        return RollSource(
            name=where,
            width_px=width,
            num_blocks=self.num_frames or 0,
            blocks=blocks,
            final_notes=notes,
            is_live=True,
        )


def _to_block(entry: CameraFrame) -> Block:
    if entry.status is FrameStatus.COMPLETE and entry.pixels is not None:
        return Lines(first_line=entry.first_line, pixels=entry.pixels)
    reason = f"camera: {entry.status}: {entry.reason}"
    return Hole(first_line=entry.first_line, num_lines=entry.num_lines, reason=reason)
