"""kmesh bundle: what is in it, what never is, and reading it again."""

from __future__ import annotations

import json
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from kmesh.cli.bundle import collect
from kmesh.cli.bundle.read import Bundle
from kmesh.cli.bundle.write import BundleError, write
from kmesh.cli.main import main
from tests.cli.agents import fake_agent
from tests.core.test_health import POD, state
from tests.core.test_redact import KEY, TOKEN

if TYPE_CHECKING:
    from pathlib import Path

Screen = pytest.CaptureFixture[str]


def bundle(tmp_path: Path, *options: str) -> int:
    places = ("--run-dir", str(tmp_path), "--bpf-fs-path", str(tmp_path / "bpf"))
    return main(["bundle", *places, "-o", str(tmp_path / "out.tar.gz"), *options])


def test_with_an_agent(tmp_path: Path, capsys: Screen) -> None:
    log = tmp_path / "agent.log"
    log.write_text(f"started\nwith {TOKEN}\n{KEY}\n")
    answers: dict[str, Any] = {"/state": {**state(), "auth_token": TOKEN}, "/enrol": [POD]}
    with fake_agent(tmp_path, answers):
        assert bundle(tmp_path, "--log", str(log)) == 0
    said = capsys.readouterr()
    assert "3 secrets taken out" in said.out
    assert "not in it: agent/top.json: KM1600 GET /top: no such path" in said.err
    found = Bundle(tmp_path / "out.tar.gz")
    assert found.document("agent/enrol.json") == [POD]
    assert found.document("agent/state.json")["auth_token"] == "[redacted]"
    assert found.document("versions.json")["kmesh"]
    assert {each["name"] for each in found.document("doctor.json")} >= {"kernel", "BTF"}
    with tarfile.open(tmp_path / "out.tar.gz") as archive:
        raw = b"".join(archive.extractfile(m).read() for m in archive)  # type: ignore[union-attr]
        assert all(member.mode == 0o600 for member in archive)
    assert TOKEN.encode() not in raw
    assert b"MHcCAQ" not in raw
    assert b"started" in raw


def test_it_is_for_its_owner_only_and_overwrites_nothing(tmp_path: Path, capsys: Screen) -> None:
    assert bundle(tmp_path, "--no-maps") == 0
    path = tmp_path / "out.tar.gz"
    assert path.stat().st_mode & 0o777 == 0o600
    before = path.read_bytes()
    assert bundle(tmp_path) == 1
    assert f"KM1705 {path}: File exists" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_without_an_agent_it_says_what_is_missing(tmp_path: Path) -> None:
    assert bundle(tmp_path) == 0
    found = Bundle(tmp_path / "out.tar.gz")
    missing = {each["name"]: each["why"] for each in found.manifest["missing"]}
    assert missing["agent/state.json"].startswith("KM1701 no agent answers")
    with pytest.raises(BundleError, match=r"has no agent/state\.json: KM1701"):
        found.document("agent/state.json")
    with pytest.raises(BundleError, match="has no x: never collected"):
        found.document("x")
    assert found.table("km_vip") is None


def test_nothing_is_left_of_a_bundle_that_fails(tmp_path: Path) -> None:
    def parts() -> Any:
        yield collect.Part("a", "files", b"x")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "b.tar.gz", "now", parts())
    assert list(tmp_path.iterdir()) == []


def test_logs_are_cut_at_their_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect, "LOG_END", 10)
    (tmp_path / "log").write_text("0123456789abcdefghij")
    assert collect.log_end(tmp_path / "log").content == b"abcdefghij"
    assert "No such file" in collect.log_end(tmp_path / "none").missing


def test_what_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="No such file"):
        Bundle(tmp_path / "none")
    (tmp_path / "text").write_text("text")
    with pytest.raises(BundleError, match="is no bundle"):
        Bundle(tmp_path / "text")


def test_a_bundle_that_was_changed(tmp_path: Path) -> None:
    write(tmp_path / "b.tar.gz", "now", [collect.Part("a.json", "files", b"{}")])
    assert Bundle(tmp_path / "b.tar.gz").document("a.json") == {}
    with tarfile.open(tmp_path / "b.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    (tmp_path / "kmesh-bundle" / "a.json").write_text("[]")
    with tarfile.open(tmp_path / "c.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "kmesh-bundle", "kmesh-bundle")
    with pytest.raises(BundleError, match=r"a\.json is damaged"):
        Bundle(tmp_path / "c.tar.gz")


def test_another_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kmesh.cli.bundle.write.FORMAT", 9)
    write(tmp_path / "b.tar.gz", "now", [])
    with pytest.raises(BundleError, match="has format 9, not 1"):
        Bundle(tmp_path / "b.tar.gz")


def test_the_kernel_is_read_where_the_agent_has_its_pins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places: list[str] = []

    def note(_: Any, bpffs: str, *__: Any) -> list[collect.Part]:
        places.append(bpffs)
        return []

    monkeypatch.setattr(collect, "collect", note)
    asked = {"/config_dump?limit=0": {"config": {"bpfFsPath": "/own"}}}
    words = ["bundle", "--run-dir", str(tmp_path), "-o"]
    with fake_agent(tmp_path, asked):
        assert main([*words, str(tmp_path / "1")]) == 0
        assert main([*words, str(tmp_path / "2"), "--bpf-fs-path", "/other"]) == 0
    assert main([*words, str(tmp_path / "3")]) == 0
    assert places == ["/own", "/other", "/sys/fs/bpf"]


def test_the_default_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Screen) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["bundle", "--run-dir", str(tmp_path), "--bpf-fs-path", str(tmp_path)]) == 0
    (made,) = tmp_path.glob("kmesh-bundle-*.tar.gz")
    assert capsys.readouterr().out.startswith(made.name)
    assert json.dumps(Bundle(made).manifest)
