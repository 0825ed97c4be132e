"""Say what a bundle is, in words or as JSON."""

import json

from zellige.core.bundle import TEMPLATE, ModelBundle
from zellige.core.ignore import Foreground
from zellige.core.manifest import Manifest, RateInfo
from zellige.core.named import UNKNOWN_KIND
from zellige.core.screen import MEMBER as SCREEN
from zellige.core.types import GeometryMode, Registration
from zellige.station.runtime import size_in_words


def describe(bundle: ModelBundle, *, as_json: bool = False) -> str:
    """Describe a verified bundle; the same bundle gives the same text. Ends with a newline."""
    manifest = bundle.manifest
    if as_json:
        content = {"id": bundle.id, "manifest": manifest.model_dump(mode="json")}
        return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
    rows = [
        ("name", manifest.run_name),
        ("id", bundle.id),
        ("made by", f"zellige {manifest.zellige_version}, git commit {manifest.git_commit or 'unknown'}"),
        ("model", f"{manifest.detector.name} ({manifest.detector.class_path})"),
        *_backbone(manifest),
        *_kinds(manifest),
        ("data", f"fingerprint {manifest.data_fingerprint}"),
        ("input", _input(manifest)),
        *_template(manifest),
        *_not_inspected(manifest),
        ("color", manifest.color.value),
        ("pixel size", _pixel_size(manifest)),
        *_flat_field(manifest),
        *_calibration(manifest),
        ("escape rate", _rate(manifest.expected_rates.escape_rate)),
        ("false rejects", _rate(manifest.expected_rates.false_reject_rate)),
        *_screen(bundle),
        ("parity", _parity(manifest)),
        ("golden", _golden(manifest)),
        *(
            (f"member {i}", f"{name}, {m.size} bytes")
            for i, (name, m) in enumerate(sorted(manifest.members.items()), 1)
        ),
    ]
    return "".join(f"{name:<14} {text}\n" for name, text in rows)


def _backbone(manifest: Manifest) -> list[tuple[str, str]]:
    backbone = manifest.backbone
    if backbone is None:
        return [("backbone", "none")]
    rows = [("backbone", f"{backbone.name}, weights sha256 {backbone.weights_sha256[:12]}")]
    return [*rows, ("weights", f"{backbone.source}, license: {backbone.license}")] if backbone.source else rows


def _kinds(manifest: Manifest) -> list[tuple[str, str]]:
    """Which kinds of defects are named, and what each means for the decision."""
    if not manifest.kinds:
        return []
    rules = {rule.kind: rule for rule in manifest.calibration.kind_rules}
    rows = [("kinds", ", ".join(manifest.kinds))]
    rows += [("rule", str(rules[kind])) for kind in (*manifest.kinds, UNKNOWN_KIND) if kind in rules]
    return [*rows, ("rule", "every other kind: major")] if rules else rows


def _input(manifest: Manifest) -> str:
    geometry = manifest.geometry
    size = f"{geometry.height} x {geometry.width} px"
    if geometry.mode is GeometryMode.RESIZE:
        return f"the whole frame resized to {size}"
    small = "mirrored up to a tile" if geometry.pad_small else "refused"
    return f"tiles of {size} at real scale, overlapping by {geometry.overlap_px} px; smaller frames are {small}"


def _template(manifest: Manifest) -> list[tuple[str, str]]:
    if not manifest.is_pair:
        return []
    geometry = manifest.geometry
    place = "expected to lie on the image"
    if geometry.registration is Registration.TRANSLATION:
        place = f"moved onto the image from up to {geometry.search_px} px away"
    own = "one is carried" if TEMPLATE in manifest.members else "none is carried"
    return [("template", f"each image is compared with one, {place}; {own}")]


def _not_inspected(manifest: Manifest) -> list[tuple[str, str]]:
    geometry = manifest.geometry
    rows = [("ignored", str(shape)) for shape in geometry.ignore]
    if geometry.ignore_mask is not None:
        mask = geometry.ignore_mask
        share = 100 * float(mask.decode().mean())
        rows.append(("ignored", f"a mask for frames of {mask.height} x {mask.width} px, {share:.1f} % of them"))
    if geometry.foreground is Foreground.AUTO:
        rows.append(("foreground", "the background around the part is not inspected"))
    return rows


def _pixel_size(manifest: Manifest) -> str:
    if manifest.pixel_size is None:
        return "uncalibrated: sizes are in px"
    return f"{size_in_words(manifest.pixel_size)}, within {100 * manifest.pixel_size_tolerance:g} %"


def _flat_field(manifest: Manifest) -> list[tuple[str, str]]:
    if manifest.target_dn is None:
        return []
    return [("flat field", f"the images are corrected, with target {manifest.target_dn:g} DN")]


def _calibration(manifest: Manifest) -> list[tuple[str, str]]:
    calibration = manifest.calibration
    band = ""
    if calibration.accept_score < calibration.reject_score:
        band = f", UNDECIDED when above {calibration.accept_score:.4g}"
    area = ""
    if calibration.min_area_mm2 is not None:
        area = f" and a defect has at least {calibration.min_area_mm2:g} mm2"
    elif calibration.min_area_px is not None:
        area = f" and a defect has at least {calibration.min_area_px:g} px"
    return [
        ("decision", f"REJECT when the score is above {calibration.reject_score:.4g}{area}{band}"),
        ("target", calibration.target),
        ("guarantee", calibration.guarantee),
    ]


def _rate(rate: RateInfo | None) -> str:
    if rate is None or rate.value is None:
        return "not measured"
    return f"{100 * rate.value:.2f} % (95 %: {100 * rate.low:.2f} to {100 * rate.high:.2f} %, n = {rate.n})"


def _screen(bundle: ModelBundle) -> list[tuple[str, str]]:
    """What was shown of the screen that the bundle carries."""
    if SCREEN not in bundle.members:
        return []
    proof = bundle.report.get("screen")
    words = proof.get("words") if isinstance(proof, dict) else None
    return [("screen", f"{words or 'carried, and report.json has no proof of it'}; the rates above are without it")]


def _parity(manifest: Manifest) -> str:
    parity = manifest.parity
    return (
        f"largest relative score difference {parity.max_relative_score_difference:.2g} on {parity.num_images} images "
        f"(allowed {parity.tolerance:.2g})"
    )


def _golden(manifest: Manifest) -> str:
    counts: dict[str, int] = {}
    for entry in manifest.golden:
        counts[entry.decision.value] = counts.get(entry.decision.value, 0) + 1
    parts = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
    return f"{len(manifest.golden)} frames ({parts}), score tolerance {manifest.score_tolerance:.2g}"
