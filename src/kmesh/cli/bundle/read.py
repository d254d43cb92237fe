"""Reads a bundle again, without unpacking it anywhere."""

from __future__ import annotations

import hashlib
import tarfile
from typing import TYPE_CHECKING, Any

import orjson

from kmesh.cli.bundle.write import FORMAT, MANIFEST, BundleError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MOST = 1 << 30  # bytes of one file


class Bundle:
    """The files of a bundle by name, checked against its manifest."""

    def __init__(self, path: Path) -> None:
        """Raises BundleError when it is no bundle, of another format, or damaged."""
        try:
            with tarfile.open(path, "r:gz") as archive:
                self._files = dict(_contents(archive))
        except (OSError, EOFError, tarfile.TarError) as error:
            raise BundleError(
                f"{path} is no bundle: {error}", "Name a file of kmesh bundle."
            ) from (error)
        self.manifest: dict[str, Any] = self.document(MANIFEST)
        if self.manifest.get("format") != FORMAT:
            raise BundleError(f"{path} has format {self.manifest.get('format')}, not {FORMAT}")
        for each in self.manifest["files"]:
            content = self._files.get(each["name"], b"")
            if hashlib.sha256(content).hexdigest() != each["sha256"]:
                raise BundleError(f"{path}: {each['name']} is damaged", "Copy it once more.")

    def document(self, name: str) -> Any:
        """A JSON file; raises BundleError when it is not there."""
        return orjson.loads(self.content(name))

    def content(self, name: str) -> bytes:
        """A file's bytes; raises BundleError when it is not there."""
        if name not in self._files:
            why = {each["name"]: each["why"] for each in self._missing()}
            raise BundleError(f"the bundle has no {name}: {why.get(name, 'never collected')}")
        return self._files[name]

    def table(self, name: str) -> list[tuple[bytes, bytes]] | None:
        """Rows of a kernel table by its name, such as km_vip; None when it is not there."""
        path = f"kernel/maps/{name}.bin"
        found = next((each for each in self.manifest["files"] if each["name"] == path), None)
        if found is None:
            return None
        key, row = found["map"]["key_size"], found["map"]["key_size"] + found["map"]["row_size"]
        raw = self._files[path]
        return [(raw[i : i + key], raw[i + key : i + row]) for i in range(0, len(raw), row)]

    def facts(self, name: str) -> dict[str, Any]:
        """How the kernel described a table; empty when it is not there."""
        path = f"kernel/maps/{name}.bin"
        found = next((each for each in self.manifest["files"] if each["name"] == path), None)
        return dict(found["map"]) if found else {}

    def _missing(self) -> list[dict[str, str]]:
        found: list[dict[str, str]] = getattr(self, "manifest", {}).get("missing", [])
        return found


def _contents(archive: tarfile.TarFile) -> Iterator[tuple[str, bytes]]:
    for member in archive:
        file = archive.extractfile(member)
        if file is not None and member.size <= MOST:
            yield member.name.removeprefix("kmesh-bundle/"), file.read()
