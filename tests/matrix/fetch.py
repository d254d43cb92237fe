"""Debian's kernels, unpacked and not installed, from the mirror that apt uses on this machine."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

# What the name says is asked of the suite at run time: names of packages change with every update.
SUITES = {
    "5.10": "bullseye-security",
    "6.1": "bookworm-security",
    "6.12": "trixie-security",
    "7.3": "trixie-backports",
}
IMAGE = "linux-image-amd64"
FETCHED = "fetched"  # a file that is there when everything else is, too
CONFIG = """\
Dir::Etc::sourcelist "{root}/sources.list";
Dir::Etc::sourceparts "-";
Dir::State::lists "{root}/lists";
Dir::State::status "/dev/null";
Dir::Cache "{root}/cache";
APT::Sandbox::User "root";
Acquire::Languages "none";
"""


class FetchError(Exception):
    """Why there is no kernel, in a sentence."""


def kernel(name: str, cache: Path) -> Path:
    """The folder of a kernel of ``SUITES``, fetched when it is not there. Raises FetchError."""
    folder = cache / name
    if (folder / FETCHED).exists():
        return folder
    suite = SUITES[name]
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="kmesh-apt-") as temporary:
        apt = sources(suite, Path(temporary))
        output("apt-get", "-qq", "update", apt=apt)
        packages = parts(output("apt-cache", "depends", IMAGE, apt=apt), "linux-image-")
        if not packages:
            raise FetchError(f"{suite} has no {IMAGE}: is the suite still served?")
        # From 6.19 on the image is an empty package that depends on its parts.
        said = output("apt-cache", "depends", packages[0], apt=apt)
        packages = parts(said, "linux-base-", "linux-binary-", "linux-modules-") or packages
        output("apt-get", "-qq", "download", *packages, folder=temporary, apt=apt)
        for package in sorted(Path(temporary).glob("*.deb")):
            output("dpkg-deb", "-x", str(package), str(folder))
    (folder / FETCHED).write_text("\n".join(packages))
    return folder


def sources(suite: str, root: Path) -> str:
    """Configuration of an apt that knows this suite alone, beside the machine's own."""
    for part in ("lists/partial", "cache/archives/partial"):
        (root / part).mkdir(parents=True)
    fields = "$(REPO_URI) $(CODENAME) $(ORIGIN)"
    known = output("apt-get", "indextargets", "--format", fields, "Created-By: Packages")
    (root / "sources.list").write_text(f"deb {mirror(known, suite)} {suite} main\n")
    (root / "apt.conf").write_text(CONFIG.format(root=root))
    return str(root / "apt.conf")


def mirror(known: str, suite: str) -> str:
    """Where a suite lies, by lines ``<uri> <codename> <origin>`` of the suites that apt knows;
    security updates have a place of their own. Raises FetchError."""
    security = suite.endswith("-security")
    for line in known.splitlines():
        uri, codename, *origin = line.split()
        if origin == ["Debian"] and codename.endswith("-security") == security:
            return uri
    kind = "security updates" if security else "packages"
    raise FetchError(f"apt knows no mirror of Debian's {kind}: add one to the sources of apt")


def parts(depends: str, *prefixes: str) -> list[str]:
    """Packages with one of these prefixes that ``apt-cache depends`` names, those with versions."""
    words = [line.split() for line in depends.splitlines()]
    names = [word[1] for word in words if word[0] == "Depends:" and len(word) == 2]
    return [
        name for name in names for prefix in prefixes
        if name.startswith(prefix) and name.removeprefix(prefix)[:1].isdigit()
    ]  # fmt: skip


def output(*command: str, folder: str | None = None, apt: str = "") -> str:
    """What a command says, with this configuration of apt. Raises FetchError with its complaint."""
    environment = os.environ | ({"APT_CONFIG": apt} if apt else {})
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise FetchError(f"{' '.join(command[:2])}: {done.stderr.strip() or done.returncode}")
    return done.stdout
