"""The runner of the matrix, as far as it needs no other kernel; and the page that it writes."""

from __future__ import annotations

import gzip
import json
import lzma
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.matrix import __main__ as matrix
from tests.matrix import boot, fetch, table, vm
from tests.matrix.__main__ import PAGE, RESULTS, ROOT
from tests.matrix.features import TRIED, chosen

if TYPE_CHECKING:
    from pathlib import Path

KNOWN = """\
http://mirror.test/debian/ bookworm-updates Debian
http://mirror.test/security/ bookworm-security Debian
http://other.test/apt stable Somebody Else
"""
LIVES = "test_an_open_connection_lives_until_it_is_looked_at"
UDP = "test_unconnected_udp_answers_come_from_the_vip"
JUNIT = f"""<testsuites><testsuite>
<testcase classname="tests.kernel.test_sock" name="{UDP}[a]"/>
<testcase classname="tests.kernel.test_authz_open" name="{LIVES}[program]">
<skipped message="no"/></testcase>
<testcase classname="tests.kernel.test_authz_open" name="{LIVES}[sock_diag]"/>
<testcase classname="tests.kernel.test_authz" name="test_datagrams_are_judged"><failure/></testcase>
<testcase classname="tests.kernel.test_authz" name="test_of_something_else"/>
</testsuite></testsuites>"""


def test_the_mirror_is_the_one_of_the_machine() -> None:
    assert fetch.mirror(KNOWN, "trixie-backports") == "http://mirror.test/debian/"
    assert fetch.mirror(KNOWN, "bullseye-security") == "http://mirror.test/security/"
    with pytest.raises(fetch.FetchError, match="no mirror of Debian's security updates"):
        fetch.mirror(KNOWN.splitlines()[0], "bullseye-security")
    with pytest.raises(fetch.FetchError, match="no mirror of Debian's packages"):
        fetch.mirror(KNOWN.splitlines()[2], "trixie")


def test_packages_are_found_by_what_depends_on_them() -> None:
    depends = "linux-image-amd64\n  Depends: linux-image-6.1.0-56-amd64\n  Suggests: x\n"
    assert fetch.parts(depends, "linux-image-") == ["linux-image-6.1.0-56-amd64"]
    parts = "x\n Depends: linux-base\n Depends: linux-base-7.3\n |Depends: linux-modules-7.3\n"
    assert fetch.parts(parts, "linux-base-", "linux-modules-") == ["linux-base-7.3"]


def test_a_command_that_fails_says_so() -> None:
    with pytest.raises(fetch.FetchError, match="ls /nowhere-to-be-found: "):
        fetch.output("ls", "/nowhere-to-be-found")


@pytest.mark.parametrize("pack", [gzip.compress, lambda raw: lzma.compress(raw, lzma.FORMAT_XZ)])
def test_the_image_inside_a_compressed_kernel(pack: object) -> None:
    assert callable(pack)
    elf = boot.ELF + b"the kernel" * 100
    image = b"setup code" + b"\x1f\x8b\x08 not packed" + pack(elf) + b"what follows"
    assert boot.unpacked(image) == elf
    with pytest.raises(ValueError, match="no ELF image"):
        boot.unpacked(b"setup code" + pack(b"something else"))


def test_modules_in_the_order_of_modprobe(tmp_path: Path) -> None:
    modules = tmp_path / "6.1.0"
    said = "builtin virtio\ninsmod /r/lib/modules/6.1.0/kernel/net/9p.ko.xz trans=virtio\n"
    assert boot.inserted(said, "/r", modules) == [modules / "kernel/net/9p.ko.xz"]


def test_the_guest_s_script_keeps_output_and_status(tmp_path: Path) -> None:
    """Run by a shell of this machine, without what switches it off."""
    text = vm.script(["sh", "-c", "echo $GREETING; pwd; exit 7"], {"GREETING": "a 'b'"}, "/usr")
    lines = [line for line in text.splitlines() if not line.startswith(("ip ", "sync", "sleep"))]
    assert lines.pop() == "echo o >/proc/sysrq-trigger"
    script = "\n".join(lines).replace(vm.OUT, str(tmp_path))
    subprocess.run(["sh", "-c", script], check=True)
    assert (tmp_path / "output").read_text() == "a 'b'\n/usr\n"
    assert (tmp_path / "status").read_text() == "7\n"


def test_the_guest_can_change_nothing_here(tmp_path: Path) -> None:
    command = vm.emulator(tmp_path, tmp_path / "out", "console", vm.Machine())
    host, out = (text for text in command if text.startswith("local,"))
    assert "path=/," in host and host.endswith("readonly=on")
    assert f"path={tmp_path / 'out'}," in out
    assert not any(word in " ".join(command) for word in ("kvm", "netdev", "-drive"))


def test_tests_are_counted_by_feature() -> None:
    counts = table.tests(JUNIT)
    assert counts == {
        "UDP through a VIP": {"passed": 1, "skipped": {}, "failed": []},
        "policies for UDP": {"passed": 0, "skipped": {}, "failed": ["test_datagrams_are_judged"]},
        "open connections ended after a change": {
            "passed": 1, "failed": [],
            "skipped": {"test_an_open_connection_lives_until_it_is_looked_at[program]": "no"},
        },
    }  # fmt: skip
    assert next(iter(counts)) in TRIED


def test_a_table_names_what_is_lost() -> None:
    good = {"name": "km_a", "object": "a", "level": "ok", "found": "km_a", "means": ""}
    bad = good | {
        "level": "warning",
        "found": "refused",
        "means": "Without it: nothing.",
        "work": 0,
    }
    feature = {"name": "errno", "level": "ok", "found": "yes", "means": ""}
    found = [
        {"kernel": "6.1", "release": "6.1.0", "features": [feature],
         "programs": [good | {"work": 1234}], "tests": table.tests(JUNIT)},
        {"kernel": "5.10", "release": "5.10.0", "programs": [bad], "tests": {},
         "features": [feature | {"found": "no", "means": "EPERM."}]},
    ]  # fmt: skip
    text = table.render(sorted(found, key=lambda each: table.version(str(each["kernel"]))))
    assert "| errno | no | yes | EPERM. |" in text
    assert "| `km_a` | refused | 1,234 | Without it: nothing. |" in text
    assert "| open connections ended after a change |  | 1 passed, 1 skipped |" in text
    assert "| policies for UDP |  | 0 passed, **1 failed** |" in text
    assert "- 6.1, skipped: no" in text
    assert "- 6.1, **failed**: `test_datagrams_are_judged`" in text


def test_what_stands_around_the_tables_stays() -> None:
    page = f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n"
    once = table.inserted(page, "new\n")
    assert once == f"before\n{table.BEGIN}\n\nnew\n\n{table.END}\nafter\n"
    assert table.inserted(once, "new\n") == once
    with pytest.raises(ValueError, match="the page has no <!-- end"):
        table.inserted(table.BEGIN, "new")


def test_the_page_is_what_was_found() -> None:
    """After a change by hand, or of the tables: ``python -m tests.matrix`` writes it anew."""
    found = table.load(RESULTS)
    assert [each["kernel"] for each in found] == list(fetch.SUITES)
    assert PAGE.read_text() == table.inserted(PAGE.read_text(), table.render(found))


def test_a_run_of_programs_alone_leaves_the_tests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matrix, "RESULTS", tmp_path / "results")
    for programs, tests, kept in (
        ([], None, {}), ([1], {"a": 1}, {"a": 1}), ([2], None, {"a": 1}), ([3], {}, {}),
    ):  # fmt: skip
        matrix.keep({"kernel": "6.1", "programs": programs}, tests)
        found = json.loads((tmp_path / "results/6.1.json").read_text())
        assert found == {"kernel": "6.1", "programs": programs, "tests": kept}


def test_results_tell_nothing_of_the_machine() -> None:
    for path in RESULTS.glob("*.json"):
        assert str(ROOT) not in path.read_text()
        assert json.loads(path.read_text())["tests"].keys() <= TRIED.keys()


def test_all_tests_of_the_matrix_exist() -> None:
    for each in chosen():
        path, _, name = each.partition("::")
        assert f"def {name}(" in (ROOT / path).read_text(), each
