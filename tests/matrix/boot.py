"""What a kernel needs to boot under emulation: its ELF image and a first file system.

Debian's kernels have 9p, overlay and (before 6.12) virtio as modules, so that an initrd is a must.
It holds busybox, those modules, and a script that puts a writable layer over the host's ``/``.
"""

from __future__ import annotations

import lzma
import os
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

NEEDED = ("virtio_pci", "9pnet_virtio", "9p", "overlay")
BUSYBOX = "/bin/busybox"
READY = "ready"
# How a bzImage may have packed its image: first bytes, and the command that unpacks it.
PACKED = ((b"\xfd7zXZ\0", "xz"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"\x1f\x8b\x08", "gzip"))
ELF = b"\x7fELF"

# /host: the file system of this machine, read only. /all: a tmpfs over it. /out: for results.
INIT = """\
#!/bin/busybox sh
b=/bin/busybox
fail() { echo "boot: $1"; echo o >/proc/sysrq-trigger; $b sleep 60; }
$b mkdir /proc /host /top /all
$b mount -t proc proc /proc
for module in $($b cat /order); do
    $b insmod /modules/$module || fail "insmod $module"
done
nine=trans=virtio,version=9p2000.L,msize=262144
$b mount -t 9p -o $nine,ro,cache=loose host /host || fail "mount /"
$b mount -t tmpfs -o size=80% top /top
$b mkdir /top/upper /top/work
$b mount -t overlay -o lowerdir=/host,upperdir=/top/upper,workdir=/top/work all /all || fail overlay
for one in proc:proc devtmpfs:dev sysfs:sys tmpfs:run devpts:dev/pts tmpfs:dev/shm \\
        cgroup2:sys/fs/cgroup bpf:sys/fs/bpf; do
    $b mkdir -p /all/${one#*:}
    $b mount -t ${one%%:*} ${one%%:*} /all/${one#*:} || fail "mount ${one#*:}"
done
$b ln -s /proc/self/fd /all/dev/fd
$b mkdir -p /all/lib/modules/$($b uname -r) /all/run/out
$b mount -o bind /host@modules@ /all/lib/modules/$($b uname -r) || fail modules
$b mount -t 9p -o $nine out /all/run/out || fail "mount /run/out"
exec $b switch_root /all /bin/sh /run/out/command
"""


def prepare(folder: Path) -> None:
    """Make ``vmlinux``, ``initrd`` and ``modules`` in an unpacked kernel's folder, once."""
    if (folder / READY).exists():
        return
    modules = only(folder, "lib/modules/*/kernel", "usr/lib/modules/*/kernel").parent
    image = only(folder, "boot/vmlinuz-*", "usr/lib/modules/*/vmlinuz")
    (folder / "vmlinux").write_bytes(unpacked(image.read_bytes()))
    with TemporaryDirectory(prefix="kmesh-initrd-") as root:
        fill(Path(root), modules)
        (folder / "initrd").write_bytes(archive(Path(root)))
    (folder / READY).touch()


def only(folder: Path, *patterns: str) -> Path:
    """The one file that fits."""
    (found,) = (path for pattern in patterns for path in folder.glob(pattern))
    return found


def unpacked(image: bytes) -> bytes:
    """The ELF image inside a bzImage: emulated, the kernel takes seconds to unpack it itself.

    Raises ValueError."""
    for magic, command in PACKED:
        at = image.find(magic)
        while at >= 0:
            # What follows the packed part makes the command complain, which says nothing.
            done = subprocess.run(
                [command, "-dc"], input=image[at:], capture_output=True, check=False
            )
            if done.stdout.startswith(ELF):
                return done.stdout
            at = image.find(magic, at + 1)
    raise ValueError("no ELF image in the kernel's file")


def fill(root: Path, modules: Path) -> None:
    """Everything that the initrd holds."""
    for part in ("bin", "dev", "modules"):
        (root / part).mkdir()
    shutil.copy(BUSYBOX, root / "bin/busybox")
    order = load_order(modules)
    for path in order:
        raw = path.read_bytes()
        plain = lzma.decompress(raw) if path.suffix == ".xz" else raw
        (root / "modules" / path.name).write_bytes(plain)
    (root / "order").write_text("\n".join(path.name for path in order))
    script = root / "init"
    script.write_text(INIT.replace("@modules@", str(modules.resolve())))
    script.chmod(0o755)


def load_order(modules: Path) -> list[Path]:
    """Files of ``NEEDED`` and of what they need, in the order in which they can be loaded."""
    release = modules.name
    with TemporaryDirectory(prefix="kmesh-modules-") as root:
        link = Path(root, "lib/modules", release)
        link.parent.mkdir(parents=True)
        link.symlink_to(modules.resolve())
        subprocess.run(["depmod", "-b", root, release], check=True)
        found: dict[Path, None] = {}
        for name in NEEDED:
            command = ["modprobe", "-d", root, "-S", release, "--show-depends", name]
            said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            found |= dict.fromkeys(inserted(said, root, modules))
    return list(found)


def inserted(said: str, root: str, modules: Path) -> list[Path]:
    """Module files that ``modprobe --show-depends`` names; none for what is built in."""
    words = [line.split() for line in said.splitlines()]
    within = f"{root}/lib/modules/{modules.name}/"
    return [modules / word[1].removeprefix(within) for word in words if word[:1] == ["insmod"]]


def archive(root: Path) -> bytes:
    """A folder as the kernel unpacks it at boot."""
    names = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
    command = [BUSYBOX, "cpio", "-o", "-H", "newc"]
    done = subprocess.run(command, input=names.encode(), cwd=root, capture_output=True, check=True)
    return done.stdout


def missing() -> list[str]:
    """Packages of Debian that have to be installed first."""
    needs = {
        "qemu-system-x86_64": "qemu-system-x86", BUSYBOX: "busybox-static", "depmod": "kmod",
        "modprobe": "kmod", "xz": "xz-utils", "zstd": "zstd", "setpriv": "util-linux",
        "apt-get": "apt",
    }  # fmt: skip
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    return sorted({package for name, package in needs.items() if not shutil.which(name, path=path)})
