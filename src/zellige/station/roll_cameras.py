"""Who sees a roll: one camera, or several side by side; where their columns lie, and their lines as one source."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from zellige.core.camera_row import CameraRow, CameraView
from zellige.core.errors import ConfigError
from zellige.core.flat_field import FlatField, check_flat_field_fits, check_lines_fit, is_same_level
from zellige.core.flat_field_file import read_flat_field
from zellige.core.manifest import Manifest
from zellige.core.types import PixelSize
from zellige.core.web import EdgeRule
from zellige.station.camera_source import LiveCamera
from zellige.station.joined_source import corrected, join_sources
from zellige.station.profile import FlatFieldSettings, RollProfile, RowCamera
from zellige.station.sources import RollSource, open_source

Roll = Path | LiveCamera | Mapping[str, Path]
"""A recording, a live camera, or the recording of each camera by its name in the profile."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RollCameras:
    """The cameras of a roll, from left to right."""

    row: CameraRow
    source: RollSource
    """Lines of the row's `num_columns`, corrected."""
    edge_rules: tuple[EdgeRule, ...]
    """How each camera sees the web's edges."""
    flat_fields: tuple[FlatField | None, ...]

    @property
    def flat_field_ids(self) -> tuple[str | None, ...]:
        return tuple(None if field is None else field.id for field in self.flat_fields)


def open_cameras(
    roll: Roll, profile: RollProfile, manifest: Manifest, pixel_size: PixelSize, where: str
) -> RollCameras:
    """Open the source of each camera, and check that they fit each other.

    Args:
        roll: where the lines come from.
        profile: of the station.
        manifest: of the bundle: the color that it wants, and the level to which flat fields correct.
        pixel_size: of all cameras.
        where: names the profile in messages.

    Raises:
        ConfigError: cameras and sources that do not belong together, views with a gap, pixel sizes that disagree.
        InputError: a recording, or a flat field that does not fit.
        StationError: a live camera that is not there.
    """
    if profile.cameras:
        return _open_row(roll, profile, manifest, pixel_size, where)
    if isinstance(roll, Mapping):
        raise ConfigError(f"--source: {where}: expected cameras in the profile, or SOURCE for the one camera; got none")
    if isinstance(roll, LiveCamera):
        source = replace(roll, settings=profile.camera).open(width_px=profile.width_px, color=manifest.color)
    else:
        source = open_source(roll, width_px=profile.width_px, color=manifest.color)
    flat_field = _read_flat_field(profile.flat_field, source, manifest, where)
    return RollCameras(
        row=CameraRow(views=(CameraView(first_column_px=0, width_px=source.width_px),), tolerance_px=0),
        source=source if flat_field is None else corrected(source, flat_field),
        edge_rules=(profile.edge_rule,),
        flat_fields=(flat_field,),
    )


def _open_row(roll: Roll, profile: RollProfile, manifest: Manifest, pixel_size: PixelSize, where: str) -> RollCameras:
    cameras = sorted(profile.cameras, key=lambda camera: camera.offset_mm)
    names = [camera.name for camera in cameras]
    if isinstance(roll, LiveCamera):
        raise ConfigError(f"--camera: {where}: expected no cameras: several are inspected from recordings alone")
    if not isinstance(roll, Mapping) or set(roll) != set(names):
        given = ", ".join(sorted(roll)) if isinstance(roll, Mapping) else f"{roll} alone"
        raise ConfigError(
            f"{where}: expected --source NAME=SOURCE for each of the cameras {', '.join(names)}, got {given}"
        )
    if len({path.resolve() for path in roll.values()}) < len(names):
        given = ", ".join(f"{name}={roll[name]}" for name in names)
        raise ConfigError(f"--source: {where}: expected another recording for each camera, got {given}")
    sources, flat_fields = [], []
    for camera in cameras:
        source = open_source(roll[camera.name], width_px=profile.width_px, color=manifest.color)
        flat_field = _read_flat_field(camera.flat_field, source, manifest, f"{where}: camera {camera.name}")
        sources.append(source if flat_field is None else corrected(source, flat_field))
        flat_fields.append(flat_field)
    _check_levels(flat_fields, where)
    edges = profile.edge_rule
    return RollCameras(
        row=_to_row(cameras, [source.width_px for source in sources], profile, pixel_size, where),
        source=join_sources(sources, names),
        edge_rules=tuple(edges if c.edges is None else replace(edges, **c.edges.model_dump()) for c in cameras),
        flat_fields=tuple(flat_fields),
    )


def _check_levels(flat_fields: Sequence[FlatField | None], where: str) -> None:
    """Refuse flat fields of several levels: the images that a bundle learned from have one."""
    levels = [field.target_dn for field in flat_fields if field is not None]
    if any(not is_same_level(level, levels[0]) for level in levels):
        given = ", ".join(f"{level:g}" for level in levels)
        raise ConfigError(f"{where}: cameras: expected flat fields of one target level, got {given} DN")


def _to_row(
    cameras: Sequence[RowCamera], widths_px: Sequence[int], profile: RollProfile, pixel_size: PixelSize, where: str
) -> CameraRow:
    """Bring offsets in mm to whole columns, and check that the views overlap and hold the web."""
    views = []
    for camera, width_px in zip(cameras, widths_px, strict=True):
        _check_pixel_size(camera, width_px, profile.registration_px, pixel_size, where)
        first_column = round((camera.offset_mm - profile.column_0_mm) / pixel_size.cross_web_mm)
        views.append(CameraView(first_column_px=first_column, width_px=width_px, name=camera.name))
    try:
        row = CameraRow(views=tuple(views), tolerance_px=profile.registration_px)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}; a pixel has {pixel_size.cross_web_mm:g} mm") from None
    if profile.edges is not None and (profile.edges.width_px or 0) > row.width_px:
        raise ConfigError(
            f"{where}: edges.width_px: expected at most the {row.width_px} px that the cameras see, got "
            f"{profile.edges.width_px:g}"
        )
    return row


def _check_pixel_size(camera: RowCamera, width_px: int, registration_px: int, expected: PixelSize, where: str) -> None:
    """Refuse a camera whose pixels are so much larger or smaller that its last column lies elsewhere."""
    own = camera.pixel_size or expected
    for axis, size, wanted in (
        ("across", own.cross_web_mm, expected.cross_web_mm),
        ("along", own.down_web_mm, expected.down_web_mm),
    ):
        if abs(size / wanted - 1) * width_px > registration_px + 1e-6:
            raise ConfigError(
                f"{where}: camera {camera.name}: expected pixels of {wanted:g} mm {axis}, to {registration_px} px over "
                f"its {width_px}, got {size:g} mm"
            )


def _read_flat_field(
    settings: FlatFieldSettings | None, source: RollSource, manifest: Manifest, where: str
) -> FlatField | None:
    """Read a camera's flat field, which must have the bundle's target level, or its own where the bundle has none."""
    declared_dn = manifest.target_dn
    if settings is None:
        if declared_dn is None:
            return None
        # Refused, not warned of: the net would see pictures unlike all that it has learned.
        raise ConfigError(
            f"{where}: flat_field: expected one with target {declared_dn:g} DN, which the bundle declares, got none; "
            "add flat_field with a file of scripts/flat_field.py"
        )
    expected_dn = settings.target_dn if declared_dn is None else declared_dn
    if expected_dn is None:
        raise ConfigError(
            f"{where}: flat_field.target_dn: expected the level of the images that the bundle learned from, which it "
            "does not declare, got none"
        )
    if settings.target_dn is not None and not is_same_level(settings.target_dn, expected_dn):
        raise ConfigError(
            f"{where}: flat_field.target_dn: expected {expected_dn:g} DN, which the bundle declares, got "
            f"{settings.target_dn:g} DN"
        )
    flat_field = read_flat_field(settings.file)
    check_flat_field_fits(flat_field, expected_dn, where)
    check_lines_fit(flat_field, source.width_px, manifest.color.num_channels, where)
    return flat_field
