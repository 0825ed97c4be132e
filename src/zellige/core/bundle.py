"""The bundle: one file that carries a model to the stations, verified in full before anything in it is used.

A plain zip, stored and not compressed, in a fixed order and with fixed times, so that the same content gives the
same bytes: manifest.json with the sha256 of every other member, model.onnx, report.json, golden/*.png. No code, no
pickle, no data outside.
"""

import contextlib
import hashlib
import json
import os
import re
import stat
import struct
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np

from zellige.core.errors import BundleError
from zellige.core.manifest import GoldenEntry, Manifest, build_manifest, parse_manifest
from zellige.core.onnx_wire import refuse_external_data
from zellige.core.types import Color, Frame, Pixels

MANIFEST = "manifest.json"
MODEL = "model.onnx"
REPORT = "report.json"
TEMPLATE = "template.png"
"""The template of all images, where a bundle that compares carries one."""

_MAX_MEMBERS = 1024
_MAX_BYTES = {".json": 16 << 20, ".png": 64 << 20, ".onnx": 1 << 30}
"""Largest size of a member by suffix, bytes; a member of another suffix is refused."""
MAX_GOLDEN_PX = 1 << 25
_NAME = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}/){0,4}[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ModelBundle:
    """A verified bundle in memory. `id` is the sha256 (hex) of its manifest.json."""

    id: str
    manifest: Manifest
    members: Mapping[str, bytes]
    """Content by name, without manifest.json."""

    @property
    def model_onnx(self) -> bytes:
        return self.members[MODEL]

    @property
    def report(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.members[REPORT])
        return content

    def golden_frames(self) -> Iterator[tuple[GoldenEntry, Frame]]:
        """Decode the golden frames one after the other; each comes with what the model must say of it.

        Raises:
            BundleError: a PNG that does not decode, or of another color than the bundle's.
        """
        for entry in self.manifest.golden:
            template = None if entry.template is None else self._decode(entry.template)
            frame = Frame(
                pixels=self._decode(entry.member),
                pixel_size=self.manifest.pixel_size,
                source_id=entry.member,
                template=template,
            )
            yield entry, frame

    def template(self) -> Pixels | None:
        """Decode the template that the bundle carries for all images; None where it carries none.

        Raises:
            BundleError: a PNG that does not decode, or of another color than the bundle's.
        """
        return self._decode(TEMPLATE) if TEMPLATE in self.members else None

    def _decode(self, member: str) -> Pixels:
        return _decode_golden(self.members[member], member, self.manifest.color)


def write_bundle(path: Path, *, members: Mapping[str, bytes], **fields: Any) -> str:
    """Write a bundle and return its id. The file appears whole or not at all; an older one is replaced or survives.

    Args:
        path: the bundle's file, `NAME.zellige` by custom.
        members: content by name: model.onnx, report.json and the golden frames (`encode_golden`).
        fields: the fields of `Manifest` except `schema_version` and `members`, as types of core, schema models or
            plain dicts.

    Raises:
        BundleError: content that `read_bundle` would refuse, or a file that cannot be written.
    """
    where = str(path)
    if MANIFEST in members:
        raise BundleError(f"bundle {where}: expected members without manifest.json, which is written here")
    for name, data in members.items():
        _check_member(name, len(data), where)
    manifest = build_manifest(fields, members, where)
    _check_content(manifest, members, where)
    manifest_bytes = manifest.to_bytes()
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            _write_zip(file, {MANIFEST: manifest_bytes, **{name: members[name] for name in sorted(members)}})
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise BundleError(f"bundle {path}: cannot be written ({error.strerror or error})") from None
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()
    return hashlib.sha256(manifest_bytes).hexdigest()


def encode_golden(pixels: Pixels) -> bytes:
    """Encode a golden frame's pixels, (H, W) or (H, W, 3) RGB uint8, as PNG."""
    image = pixels if pixels.ndim == 2 else np.ascontiguousarray(pixels[..., ::-1])
    return bytes(cv2.imencode(".png", image)[1])


def read_bundle(path: Path) -> ModelBundle:
    """Read a bundle and verify all of it: structure, names, sizes, schema, hashes, and that the model stands alone.

    Raises:
        BundleError: one line that says what is wrong with which file.
    """
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            infos = _check_directory(archive, path.stat().st_size, str(path))
            content = {name: _read_member(archive, info, str(path)) for name, info in infos.items()}
    except OSError as error:
        raise BundleError(f"bundle {path}: cannot be read ({error.strerror or error})") from None
    except BundleError:
        raise
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, EOFError, struct.error) as error:
        raise BundleError(f"bundle {path}: not a bundle, or a damaged one ({' '.join(str(error).split())})") from None
    manifest_bytes = content.pop(MANIFEST)
    manifest = parse_manifest(manifest_bytes, str(path))
    _check_content(manifest, content, str(path))
    return ModelBundle(id=hashlib.sha256(manifest_bytes).hexdigest(), manifest=manifest, members=content)


def _write_zip(file: IO[bytes], content: Mapping[str, bytes]) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, data in content.items():
            info = zipfile.ZipInfo(name, date_time=_EPOCH)
            info.create_system = 3
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(info, data)


def _zip_size(sizes: Mapping[str, int]) -> int:
    """Size in bytes of a zip that holds these members and nothing else: no extra fields, no comments, no gaps."""
    return 22 + sum(30 + 46 + 2 * len(name) + size for name, size in sizes.items())


def _check_directory(archive: zipfile.ZipFile, file_size: int, where: str) -> dict[str, zipfile.ZipInfo]:
    """Check the zip's directory: what it declares bounds what is read."""
    infos: dict[str, zipfile.ZipInfo] = {}
    if len(archive.filelist) > _MAX_MEMBERS:
        raise BundleError(f"bundle {where}: expected at most {_MAX_MEMBERS} members, got {len(archive.filelist)}")
    for info in archive.filelist:
        name = info.orig_filename
        if name in infos:
            raise BundleError(f"bundle {where}: member {name!r} is there twice, expected once")
        mode = info.external_attr >> 16
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG) or info.is_dir():
            raise BundleError(f"bundle {where}: member {name!r}: expected a plain file, got a link or folder")
        if info.flag_bits & 0x1:
            raise BundleError(f"bundle {where}: member {name!r}: expected plain bytes, got an encrypted member")
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise BundleError(f"bundle {where}: member {name!r}: expected stored bytes, got a compressed member")
        _check_member(name, info.file_size, where)
        infos[name] = info
    expected = _zip_size({name: info.file_size for name, info in infos.items()})
    if file_size != expected:
        raise BundleError(f"bundle {where}: expected {expected} bytes for its members, the file has {file_size}")
    if MANIFEST not in infos:
        raise BundleError(f"bundle {where}: expected a member manifest.json, got none")
    return infos


def _check_member(name: str, size: int, where: str) -> None:
    limit = _MAX_BYTES.get(Path(name).suffix)
    if not _NAME.fullmatch(name) or limit is None:
        raise BundleError(
            f"bundle {where}: member {name[:100]!r}: expected a plain relative name ending in {', '.join(_MAX_BYTES)}"
        )
    if size > limit:
        raise BundleError(f"bundle {where}: member {name!r}: expected at most {limit} bytes, got {size}")


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, where: str) -> bytes:
    with archive.open(info) as file:
        data = file.read(info.file_size + 1)
    if len(data) != info.file_size:
        raise BundleError(f"bundle {where}: member {info.filename!r}: expected {info.file_size} bytes, got {len(data)}")
    return data


def _check_content(manifest: Manifest, members: Mapping[str, bytes], where: str) -> None:
    """Check that the members are the manifest's, byte for byte, and that each can be what it says."""
    declared = manifest.members
    pictures = [entry.member for entry in manifest.golden]
    pictures += [entry.template for entry in manifest.golden if entry.template is not None]
    pictures += [TEMPLATE] if TEMPLATE in declared else []
    needed = {MODEL, REPORT, *pictures}
    for problem, names in (
        ("misses member", set(declared) - set(members)),
        ("has a member that its manifest does not list:", set(members) - set(declared)),
        ("does not list in its manifest", needed - set(declared)),
    ):
        if names:
            raise BundleError(f"bundle {where}: {problem} {min(names)!r}")
    for name, entry in declared.items():
        data = members[name]
        if len(data) != entry.size or hashlib.sha256(data).hexdigest() != entry.sha256:
            raise BundleError(
                f"bundle {where}: member {name!r} is damaged: its content is not what the manifest hashed"
            )
    refuse_external_data(members[MODEL], where)
    try:
        report = json.loads(members[REPORT])
    except (ValueError, RecursionError) as error:
        raise BundleError(f"bundle {where}: report.json is not valid JSON ({error})") from None
    if not isinstance(report, dict):
        raise BundleError(f"bundle {where}: report.json: expected an object, got {type(report).__name__}")
    for picture in pictures:
        _check_golden_size(members[picture], picture, where)
    if any((entry.template is None) == manifest.is_pair for entry in manifest.golden):
        raise BundleError(f"bundle {where}: expected golden frames with templates where is_pair, and only there")


def _check_golden_size(png: bytes, name: str, where: str) -> None:
    if png[:8] != b"\x89PNG\r\n\x1a\n" or png[12:16] != b"IHDR" or len(png) < 24:
        raise BundleError(f"bundle {where}: picture {name!r}: expected a PNG image")
    width, height = struct.unpack(">II", png[16:24])
    if not 0 < width * height <= MAX_GOLDEN_PX:
        raise BundleError(
            f"bundle {where}: picture {name!r}: expected at most {MAX_GOLDEN_PX} px, got {height} x {width}"
        )


def _decode_golden(png: bytes, name: str, color: Color) -> Pixels:
    try:
        image = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        image = None
    if image is None or image.dtype != np.uint8:
        raise BundleError(f"golden frame {name!r}: expected an 8-bit PNG image, got one that cannot be read")
    shape = (2,) if color.num_channels == 1 else (3, 3)
    if (image.ndim, *image.shape[2:]) != shape:
        raise BundleError(f"golden frame {name!r}: expected {color.num_channels} channel(s), got shape {image.shape}")
    return np.ascontiguousarray(image if image.ndim == 2 else image[..., ::-1])
