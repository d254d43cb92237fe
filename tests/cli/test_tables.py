"""Tables and lines of the commands that no agent is needed for, word by word."""

from __future__ import annotations

import pytest
from rich.console import Console

from kmesh.cli.doctor import show as show_doctor
from kmesh.cli.lab_actions import answers
from kmesh.cli.lab_actions import show as show_lab
from kmesh.core.verdicts import FAILED, INFO, OK, WARNING, Verdict
from kmesh.lab.connect import Report
from kmesh.lab.lab import LabStatus, PodStatus

Screen = pytest.CaptureFixture[str]


def test_doctor(capsys: Screen) -> None:
    verdicts = [
        Verdict("System", "kernel", INFO, "Linux 6.1 [x]"),
        Verdict("System", "bpffs", FAILED, "no bpffs", "Nothing is kept.", "Mount one."),
        Verdict("Others", "cgroups", WARNING, "Cilium: connect4", "Two decide."),
        Verdict("Others", "pins", OK, "ours"),
    ]
    show_doctor(Console(soft_wrap=True, highlight=False), verdicts, quiet=False)
    assert (
        capsys.readouterr().out
        == """\
System
  info    kernel: Linux 6.1 [x]
  failed  bpffs: no bpffs
            Nothing is kept.
            Mount one.
Others
  warning cgroups: Cilium: connect4
            Two decide.
  ok      pins: ours
The agent cannot run here: 1 failed, 1 warning, 2 well.
"""
    )


def test_lab(capsys: Screen) -> None:
    pods = (
        PodStatus("web-1", "c//Pod/demo/web-1", "kmesh-lab-web-1", ("10.0.0.1", "fd00::1"),
                  (53, 8080), True, "alive", 17, True),
        PodStatus("client", "c//Pod/demo/client", "kmesh-lab-client", ("10.0.0.2",), (), False,
                  "none", 0, None),
    )  # fmt: skip
    found = LabStatus("lab", True, "/m.yaml", "lab", pods, (), ("the daemon is away",))
    show_lab(found, as_json=False)
    said = capsys.readouterr()
    assert (
        said.out
        == """\
lab lab (/m.yaml)
POD      ADDRESSES          PORTS     NAMESPACE         SERVER       ENROLLED
web-1    10.0.0.1,fd00::1   53,8080   kmesh-lab-web-1   alive (17)   yes
client   10.0.0.2           -         missing           none         unknown
"""
    )
    assert said.err == "warning the daemon is away\n"


def test_lab_connections(capsys: Screen) -> None:
    report = Report(
        "10.9.0.1:80", "tcp", 4, {"web-2": 1, "web-1": 2}, {"ECONNREFUSED": 1}, {"10.9.0.1:80": 3},
        2, {"reset": 1}, 1.0, {"p50": 10.5, "p99": 20.0, "max": 30.0},
    )  # fmt: skip
    answers(report, "client")
    assert (
        capsys.readouterr().out
        == """\
client to 10.9.0.1:80
ANSWERED BY           CONNECTIONS   SHARE
web-1                 2             50.0%
web-2                 1             25.0%
ECONNREFUSED          1             25.0%
broken later: reset   1             -
tcp; peer as the client sees it: 10.9.0.1:80; p50 10.5 µs, p99 20 µs
"""
    )
