"""The station's profile: all that belongs to the cameras above one web, and not to the model.

A JSON file, or YAML where PyYAML is there; checked in full when it is read. Paths in it are relative to the file.
"""

import math
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from zellige.core.encoder import EncoderRule
from zellige.core.errors import ConfigError
from zellige.core.mapping_file import read_mapping
from zellige.core.roll_records import Lane
from zellige.core.types import PixelSize
from zellige.core.web import Background, Datum, EdgeRule
from zellige.station.gige_stream import CameraSettings

Positive = Annotated[float, Field(gt=0)]
Name = Annotated[str, Field(min_length=1, max_length=100)]

NO_EDGES = EdgeRule(
    background=Background.DARK, threshold_dn=2.5, width_px=None, sees_left_edge=False, sees_right_edge=False
)
"""The web fills the camera's view: all columns are web wherever there is light."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class FlatFieldSettings(_Strict):
    """The camera's correction, and the level that the model was trained for."""

    file: Path
    target_dn: Positive | None = None
    """Target level of the images that the bundle learned from; None takes what the bundle declares."""

    def beside(self, profile: Path) -> "FlatFieldSettings":
        """Return the settings with the file relative to the profile's folder."""
        return self.model_copy(update={"file": profile.parent / self.file})


class CameraEdges(_Strict):
    """How the web's edges look to a camera that sees them otherwise than the row's `edges` say."""

    background: Background
    threshold_dn: Annotated[float, Field(gt=0, lt=255)]


class RowCamera(_Strict):
    """One of several cameras side by side across the web."""

    name: Annotated[str, Field(min_length=1, max_length=100, pattern="^[^=;]+$")]
    offset_mm: float
    """Where its first column lies across; where offsets are counted from is where the datum `camera` is."""
    pixel_size: PixelSize | None = None
    """As it was measured for this camera; it must be the profile's, or lines cannot lie side by side."""
    flat_field: FlatFieldSettings | None = None
    edges: CameraEdges | None = None
    """None: as the profile's `edges` say."""


class Roller(_Strict):
    """A roller that touches the web."""

    name: Name
    circumference_mm: Positive


class RepeatSettings(_Strict):
    """How repeating defects are looked for; see `core.repeats.find_repeats`."""

    across_mm: Positive = 5.0
    along_mm: Positive = 3.0
    min_period_mm: Positive = 50.0
    max_period_mm: Positive = 5000.0
    min_count: Annotated[int, Field(ge=3)] = 3
    """Fewest marks. Where many defects lie anywhere, three of them are evenly spaced by chance: take more."""

    @model_validator(mode="after")
    def _can_be(self) -> Self:
        if not 4 * self.along_mm <= self.min_period_mm <= self.max_period_mm:
            raise ValueError("expected 4 x along_mm <= min_period_mm <= max_period_mm")
        return self


class RollProfile(_Strict):
    """The cameras above one web. All of it has a default: one whose view the web fills, as the bundle saw it."""

    width_px: Annotated[int, Field(ge=1, le=1 << 17)] | None = None
    """Columns of the camera, of each where there are several; None takes the recording's. A raw file needs it."""
    pixel_size: PixelSize | None = None
    """None takes the bundle's."""
    line_rate_hz: Positive | None = None
    frame_height: Annotated[int, Field(ge=32, le=1 << 16)] | None = None
    """Lines of a frame; None takes four tiles."""
    context_lines: Annotated[int, Field(ge=0)] | None = None
    """Lines at a frame's border whose map does not count; None takes half of the overlap of the bundle's tiles."""
    flat_field: FlatFieldSettings | None = None
    edges: EdgeRule | None = None
    """None: the web fills the view."""
    edge_margin_px: Annotated[float, Field(ge=0)] = 0.0
    """What is left out at each edge: fraying, selvedge."""
    datum: Datum = Datum.CAMERA
    camera_mm: float = 0.0
    """Where the camera's column 0 lies on the machine (datum camera)."""
    encoder: EncoderRule | None = None
    lanes: tuple[Lane, ...] = ()
    """None given: the whole web is one lane."""
    rollers: tuple[Roller, ...] = ()
    repeats: RepeatSettings = RepeatSettings()
    grading: Path | None = None
    """File of the grading rules; None: no grades."""
    camera: CameraSettings = CameraSettings()
    """What is asked of a live camera."""
    cameras: tuple[RowCamera, ...] = ()
    """Cameras side by side across the web; none given: one camera."""
    registration_px: Annotated[int, Field(ge=0, le=1000)] = 2
    """How far two neighbors may be off from each other. They must see twice as much in common."""
    screen: bool = False
    """Whether the bundle's screen picks the tiles for the net."""
    max_streak_mm: Positive = 2000.0
    """A longer defect becomes several records."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        edges = self.edges
        for datum, is_seen in (
            (Datum.LEFT_EDGE, edges is not None and edges.sees_left_edge),
            (Datum.RIGHT_EDGE, edges is not None and edges.sees_right_edge),
        ):
            if self.datum is datum and not is_seen:
                raise ValueError(f"datum {datum}: expected edges with that edge in view")
        named = ("lane", self.lanes), ("roller", self.rollers), ("camera", self.cameras)
        for what, names in ((what, [x.name for x in things]) for what, things in named):
            if len(set(names)) != len(names):
                raise ValueError(f"expected every {what} once, got {', '.join(names)}")
        if any(";" in lane.name for lane in self.lanes):
            raise ValueError("lanes: expected names without ';'")
        if self.cameras:
            self._check_cameras()
            return self
        widest = self.width_px or math.inf
        if edges is not None and edges.width_px is not None and edges.width_px > widest:
            raise ValueError(f"edges.width_px: expected at most width_px {widest}, got {edges.width_px:g}")
        return self

    def _check_cameras(self) -> None:
        """Refuse what belongs to one camera beside several, and a web that may lose an edge without being noticed."""
        alone = {"flat_field": None, "camera_mm": 0.0, "camera": CameraSettings()}
        for name, default in alone.items():
            if getattr(self, name) != default:
                raise ValueError(f"{name}: expected none beside cameras, each of which has its own")
        edges = self.edges
        if edges is None:
            if any(camera.edges is not None for camera in self.cameras):
                raise ValueError("cameras: expected edges in the profile where a camera has its own")
        elif edges.sees_left_edge != edges.sees_right_edge or (edges.sees_left_edge and edges.width_px is None):
            # Else a camera without light would look like the web's edge.
            raise ValueError("edges: expected both edges and width_px beside cameras, or neither edge in view")

    def check_encoder(self, pixel_size: PixelSize, where: str) -> None:
        """Refuse an encoder whose lines are not as far apart as the pixels are long.

        Raises:
            ConfigError: they differ by more than the encoder's tolerance.
        """
        if self.encoder is None:
            return
        pitch, pixel_mm = self.encoder.pitch_mm, pixel_size.down_web_mm
        if abs(pitch - pixel_mm) > self.encoder.pitch_tolerance * pixel_mm:
            raise ConfigError(
                f"{where}: encoder: expected mm_per_count x counts_per_line to be the pixel's {pixel_mm:g} mm, got "
                f"{pitch:g} mm"
            )

    @property
    def edge_rule(self) -> EdgeRule:
        return self.edges or NO_EDGES

    @property
    def column_0_mm(self) -> float:
        """Where column 0 lies on the machine: the first camera's."""
        return min((camera.offset_mm for camera in self.cameras), default=self.camera_mm)

    @property
    def diameters_mm(self) -> dict[str, float]:
        """Diameter of each roller by name, as `core.repeats.fitting_rollers` wants it."""
        return {roller.name: roller.circumference_mm / math.pi for roller in self.rollers}


def read_profile(path: Path) -> RollProfile:
    """Read a profile; the paths in it become relative to its folder.

    Raises:
        ConfigError: unreadable, YAML without PyYAML, a field that is missing, unknown or wrong, or a contradiction.
    """
    content = read_mapping(path, "profile")
    try:
        profile = RollProfile.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        message = " ".join(first["msg"].split()).removeprefix("Value error, ")
        raise ConfigError(f"profile {path}: {field + ': ' if field else ''}{message}") from None
    changes: dict[str, object] = {}
    if profile.grading is not None:
        changes["grading"] = path.parent / profile.grading
    if profile.flat_field is not None:
        changes["flat_field"] = profile.flat_field.beside(path)
    if profile.cameras:
        changes["cameras"] = tuple(
            camera.model_copy(update={"flat_field": camera.flat_field and camera.flat_field.beside(path)})
            for camera in profile.cameras
        )
    return profile.model_copy(update=changes)
