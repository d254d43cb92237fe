"""The archive itself: written once, whole or not at all, for its owner only."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from typing import TYPE_CHECKING, Any

from kmesh import __version__
from kmesh.cli.bundle.collect import dump
from kmesh.errors import KmeshError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from kmesh.cli.bundle.collect import Part

FORMAT = 1
MANIFEST = "MANIFEST.json"


class BundleError(KmeshError):
    """A bundle cannot be written or read."""

    code = "KM1705"
    next_step = "Name another file with -o; an existing one is never overwritten."


def write(path: Path, stamp: str, parts: Iterable[Part]) -> dict[str, Any]:
    """Write all parts below one folder, the manifest last; gives the manifest.

    Raises BundleError; then nothing is left behind.
    """
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise BundleError(f"{path}: {error.strerror}") from error
    try:
        with os.fdopen(fd, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
            return _fill(archive, stamp, parts)
    except BaseException as error:
        path.unlink()
        if isinstance(error, OSError):
            raise BundleError(f"{path}: {error.strerror}") from error
        raise


def _fill(archive: tarfile.TarFile, stamp: str, parts: Iterable[Part]) -> dict[str, Any]:
    files: list[dict[str, Any]] = []
    missing: list[dict[str, str]] = []
    redacted = 0
    for part in parts:
        if part.missing:
            missing.append({"name": part.name, "why": part.missing})
            continue
        _add(archive, part.name, part.content)
        redacted += part.redacted
        facts = {} if part.facts is None else {"map": part.facts}
        files.append({
            "name": part.name, "layer": part.layer, "bytes": len(part.content),
            "sha256": hashlib.sha256(part.content).hexdigest(), "redacted": part.redacted, **facts,
        })  # fmt: skip
    manifest = {
        "format": FORMAT, "kmesh": __version__, "time": stamp, "redacted": redacted,
        "files": files, "missing": missing,
    }  # fmt: skip
    _add(archive, MANIFEST, dump(manifest))
    return manifest


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(f"kmesh-bundle/{name}")
    info.size, info.mode = len(content), 0o600
    archive.addfile(info, io.BytesIO(content))
