"""What a bundle says of itself: the strict schema of manifest.json.

The same content gives the same bytes: keys are sorted, there is no time and no NaN, so the manifest's sha256 is the
bundle's id.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import to_jsonable_python

from zellige.core.errors import BundleError, ConfigError
from zellige.core.flat_field import MAX_TARGET_DN
from zellige.core.kind_rules import check_kind_rules, check_units
from zellige.core.types import Calibration, Color, Decision, Geometry, PixelSize

SCHEMA_VERSION = 4
"""2 says where the weights of the backbone come from, 3 which kinds of defects the model names, 4 the target level of
flat-field-corrected images; all are read."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Line = Annotated[str, Field(min_length=1, max_length=1000)]
Count = Annotated[int, Field(ge=0)]
Tolerance = Annotated[float, Field(ge=0, lt=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class DetectorInfo(_Strict):
    """Which detector was exported: the Python class and the name that people use for it."""

    class_path: Line
    name: Line


class BackboneInfo(_Strict):
    """The pretrained network under the detector, and the sha256 of its weights' file."""

    name: Line
    weights_sha256: Sha256
    source: Line | None = None
    """A package with its version, an address, or the name of a file; None in bundles of schema 1."""
    license: Line | None = None


class RateInfo(_Strict):
    """A `core.types.Rate` in JSON: `value` is null where n is 0."""

    value: float | None
    low: float
    high: float
    n: Count


class ExpectedRates(_Strict):
    """What the test split showed; null where it was not measured."""

    escape_rate: RateInfo | None
    false_reject_rate: RateInfo | None


class ParityInfo(_Strict):
    """How far the exported graph is from the trained detector, over `num_images` images."""

    max_relative_score_difference: Annotated[float, Field(ge=0)]
    tolerance: Tolerance
    num_images: Count


class GoldenEntry(_Strict):
    """One golden frame: a PNG member, and the decision and score that it must give."""

    member: Line
    decision: Decision
    score: float
    source_kind: Line
    template: Line | None = None
    """PNG member with its template, where the bundle compares images with one."""


class MemberEntry(_Strict):
    """Content hash and size, in bytes, of one member."""

    sha256: Sha256
    size: Count


class Manifest(_Strict):
    """Model truth: what the model is, how it sees, how it decides, and the hash of every member of its bundle."""

    schema_version: Literal[1, 2, 3, 4] = 4
    run_name: Line
    zellige_version: Line
    git_commit: Line | None
    data_fingerprint: Line
    detector: DetectorInfo
    backbone: BackboneInfo | None
    """None: the model has no pretrained network under it that stays as it is."""
    geometry: Geometry
    color: Color
    pixel_size: PixelSize | None
    """None: nobody measured it; the bundle is uncalibrated and its sizes are in px."""
    pixel_size_tolerance: Tolerance = 0.02
    """Largest relative difference, per axis, between a frame's pixel size and this one."""
    calibration: Calibration
    expected_rates: ExpectedRates
    parity: ParityInfo
    score_tolerance: Tolerance
    """Largest relative difference of a golden frame's score on the station."""
    golden: Annotated[tuple[GoldenEntry, ...], Field(min_length=1, max_length=256)]
    members: dict[str, MemberEntry]
    kinds: Annotated[tuple[Line, ...], Field(max_length=255)] = ()
    """The kinds of defects that the model names, in the order of their numbers; none where it names none."""
    is_pair: bool = False
    """Whether the model compares each frame with a template, whose channels follow the frame's."""
    target_dn: Annotated[float, Field(gt=0, le=MAX_TARGET_DN)] | None = None
    """Target level of the flat field that corrected the images which the model learned from; None: nobody said."""

    @field_validator("calibration")
    @classmethod
    def _area_rule_fits(cls, calibration: Calibration, info: Any) -> Calibration:
        if calibration.min_area_mm2 is not None and info.data.get("pixel_size") is None:
            raise ValueError("min_area_mm2 needs a pixel size, got an uncalibrated bundle")
        return calibration

    @model_validator(mode="after")
    def _rules_fit(self) -> Self:
        rules = self.calibration.kind_rules
        try:
            check_kind_rules(rules, self.kinds)
            check_units(rules, is_calibrated=self.is_calibrated)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        if len(set(self.kinds)) < len(self.kinds):
            raise ValueError("kinds: expected each once")
        return self

    @property
    def num_channels(self) -> int:
        """Channels of the model's input."""
        return self.color.num_channels * (2 if self.is_pair else 1)

    @property
    def is_calibrated(self) -> bool:
        return self.pixel_size is not None

    def to_bytes(self) -> bytes:
        """Return the content of manifest.json: sorted keys, two spaces, UTF-8, one newline at the end."""
        content = self.model_dump(mode="json")
        text = json.dumps(content, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
        return (text + "\n").encode()


def build_manifest(fields: Mapping[str, Any], members: Mapping[str, bytes], where: str) -> Manifest:
    """Build a manifest from its fields (types of core, schema models or plain dicts) and hash the members.

    Raises:
        BundleError: a field is missing, unknown, ill-typed or not finite.
    """
    entries = {name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)} for name, data in members.items()}
    content = {**fields, "schema_version": SCHEMA_VERSION, "members": entries}
    # NaN becomes null, which the schema accepts for a rate that was not measured and for nothing else.
    return _validate(json.dumps(to_jsonable_python(content, inf_nan_mode="null")), where)


def parse_manifest(data: bytes, where: str) -> Manifest:
    """Parse manifest.json.

    Raises:
        BundleError: not JSON, of another schema version, or not what the schema says.
    """
    try:
        content = json.loads(data.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"bundle {where}: manifest.json is not valid JSON ({error})") from None
    version = content.get("schema_version") if isinstance(content, dict) else None
    if type(version) is not int or version < 1:
        raise BundleError(
            f"bundle {where}: manifest.json: expected schema_version {SCHEMA_VERSION}, got {str(version)[:40]}"
        )
    if version > SCHEMA_VERSION:
        raise BundleError(f"bundle {where}: made by a newer zellige: schema {version}, this one reads {SCHEMA_VERSION}")
    return _validate(data.decode(), where)


def _validate(text: str, where: str) -> Manifest:
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise BundleError(f"bundle {where}: manifest.json: {field}: {' '.join(first['msg'].split())}") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"expected finite numbers, got {name}")
