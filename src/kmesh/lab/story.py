"""The demo's story: each chapter does something to the mesh and checks what real clients see."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from kmesh.errors import LabError
from kmesh.lab.connect import Dialling, Report, connect, order
from kmesh.lab.meshedit import add_workload, remove_workload

if TYPE_CHECKING:
    from collections.abc import Callable

    from kmesh.lab.stage import Actor, Stage

VIP4, VIP6, NEAR = "10.96.0.10", "fd00:96::10", "10.96.0.20"
MANY = 300
# With three equal endpoints and 300 connections the standard deviation is 8: of fair demos (24 such
# counts each) about one in 50,000 misses these bounds.
FEWEST, MOST = 60, 140
IN_FLIGHT = 1000
HELD = 20
ALL = {"web-1", "web-2", "web-3"}


class Claim(NamedTuple):
    """One thing the demo shows; ``measured`` says what was seen, in words."""

    title: str
    ok: bool
    measured: str


class Story:
    """The chapters in order. ``say`` gets a line per action."""

    def __init__(self, stage: Stage, say: Callable[[str], None]) -> None:
        self._stage, self._say = stage, say
        self._daemon: Actor | None = None
        self._enrolled: list[str] = []

    def chapters(self) -> list[tuple[str, Callable[[], Claim]]]:
        """(title, action) of each chapter, clean-up left out."""
        return [
            ("control plane, daemon and lab come up", self._up),
            ("TCP connections to a VIP are spread over three endpoints", self._balance),
            ("the same over IPv6", self._ipv6),
            ("UDP, on plain and on connected sockets", self._udp),
            ("an unknown port of a VIP is refused at once", self._unknown_port),
            ("strict locality refuses when nothing is near", self._strict),
            ("an endpoint dies: nobody is sent there any more", self._kill),
            ("an endpoint is added: it gets its share", self._add),
            ("the daemon is killed while connections go on", self._sigkill),
            ("a new daemon adopts what is in the kernel", self._adopt),
        ]

    def _dial(self, target: str, connections: int = MANY, kind: str = "tcp") -> Report:
        self._say(f"client dials {target} ({kind}) {connections} times")
        lab = self._stage.lab
        return connect(lab.pod("client"), order(lab, target, connections=connections, kind=kind))

    def _up(self) -> Claim:
        stage = self._stage
        address = stage.start_controlplane()
        self._say(f"control plane serves {stage.mesh} at {address}")
        self._daemon = stage.start_daemon()
        self._say(f"daemon is process {self._daemon.process.pid}, in sync")
        status = stage.lab.up(stage.mesh, enrol_required=True)
        self._enrolled = sorted(pod.workload for pod in status.pods if pod.enrolled)
        good = all(pod.namespace and pod.server == "alive" and pod.enrolled for pod in status.pods)
        return Claim("", good and len(status.pods) == 4, f"{len(self._enrolled)} pods enrolled")

    def _balance(self) -> Claim:
        return _spread(self._dial(f"{VIP4}:80"), f"{VIP4}:80", ALL)

    def _ipv6(self) -> Claim:
        return _spread(self._dial(f"[{VIP6}]:80"), f"[{VIP6}]:80", ALL)

    def _udp(self) -> Claim:
        claims = [
            _spread(self._dial(target, kind=kind), target, ALL)
            for kind in ("udp", "udp-connected")
            for target in (f"{VIP4}:53", f"[{VIP6}]:53")
        ]
        bad = [claim.measured for claim in claims if not claim.ok]
        return Claim("", not bad, "; ".join(bad) or f"4 x {MANY} datagrams, sender is the VIP")

    def _unknown_port(self) -> Claim:
        return _refused(self._dial(f"{VIP4}:81", 20))

    def _strict(self) -> Claim:
        return _refused(self._dial(f"{NEAR}:80", 20))

    def _kill(self) -> Claim:
        stage = self._stage
        stage.lab.stop_server("web-2")
        self._say("server web-2 killed")
        took = self._edited(lambda: remove_workload(stage.mesh, "web-2"))
        report = self._dial(f"{VIP4}:80")
        good = report.ok and set(report.answers) == {"web-1", "web-3"}
        stage.lab.up(stage.mesh, enrol_required=True)
        return Claim("", good, f"edit to kernel {took * 1000:.0f} ms; then {_shares(report)}")

    def _add(self) -> Claim:
        stage = self._stage
        ahead = stage.mesh.with_name("ahead.yaml")
        ahead.write_bytes(stage.mesh.read_bytes())
        add_workload(ahead, "web-1", "web-4", ["10.244.1.14", "fd00:244:1::14"])
        # The pod first, then the news of it: as a readiness probe would have it.
        stage.lab.up(ahead, enrol_required=True)
        self._say("pod web-4 made")
        took = self._edited(lambda: ahead.replace(stage.mesh))
        status = stage.lab.up(stage.mesh, enrol_required=True)
        self._enrolled = sorted(pod.workload for pod in status.pods if pod.enrolled)
        claim = _spread(self._dial(f"{VIP4}:80"), f"{VIP4}:80", {"web-1", "web-3", "web-4"})
        return claim._replace(measured=f"edit to kernel {took * 1000:.0f} ms; {claim.measured}")

    def _edited(self, edit: Callable[[], object]) -> float:
        """Edit the mesh file; gives the seconds until the daemon reports a newer revision."""
        before = self._revision()
        edit()
        self._say("mesh file edited")
        return self._stage.until(lambda: self._revision() > before, "the edit is in the kernel")

    def _revision(self) -> int:
        return int(self._stage.daemon.state()["revision"])

    def _sigkill(self) -> Claim:
        if self._daemon is None:
            raise LabError("no daemon was started")
        lab = self._stage.lab
        client = lab.pod("client")
        held = order(lab, f"{VIP4}:80", connections=HELD, hold=True)
        flow = order(
            lab, f"{VIP4}:80", connections=IN_FLIGHT, progress=IN_FLIGHT // 10, spacing=0.001
        )
        with Dialling(client, held) as established:
            established.progress()
            with Dialling(client, flow) as dialling:
                dialling.progress()
                self._daemon.process.kill()
                self._daemon.process.wait()
                died = time.monotonic()
                self._say("daemon killed by SIGKILL while the client goes on")
                alone = IN_FLIGHT - _done_by(died, dialling)
                report = dialling.report()
            established.release()
            old = established.report()
        good = report.ok and old.ok and self._dead() and alone >= IN_FLIGHT // 10
        failed = sum(report.errors.values())
        measured = (
            f"{failed} of {IN_FLIGHT} failed, {alone} or more of them made with no daemon alive; "
            f"{HELD - sum(old.broken.values())} of {HELD} older connections live"
        )
        return Claim("", good, measured)

    def _dead(self) -> bool:
        return self._daemon is not None and self._daemon.process.poll() is not None

    def _adopt(self) -> Claim:
        lab = self._stage.lab
        flow = order(
            lab, f"{VIP4}:80", connections=IN_FLIGHT, progress=IN_FLIGHT // 10, spacing=0.001
        )
        with Dialling(lab.pod("client"), flow) as dialling:
            dialling.progress()
            self._daemon = self._stage.start_daemon()
            self._say(f"new daemon is process {self._daemon.process.pid}, in sync")
            report = dialling.report()
        kept = sorted(str(one["workload"]) for one in self._stage.daemon.enrolled())
        after = _spread(self._dial(f"{VIP4}:80"), f"{VIP4}:80", {"web-1", "web-3", "web-4"})
        good = report.ok and after.ok and kept == self._enrolled
        failed = sum(report.errors.values())
        measured = f"{failed} of {IN_FLIGHT} failed meanwhile; {len(kept)} enrolments kept"
        return Claim("", good, measured)

    def clean_up(self) -> Claim:
        """Stop the daemon, see its pins stay, uninstall, take everything down, look again."""
        stage = self._stage
        stage.lab.down()
        if self._daemon is not None and not self._dead():
            status = self._daemon.stop()
            if status != 0:
                return Claim("", False, f"the daemon ended with status {status}")
        stayed = len(stage.pins())
        stage.uninstall()
        pins = stage.pins()
        stage.clear()
        left = [*stage.leftovers(), *pins]
        seen = f"{stayed} pins outlived the daemon; left now: {', '.join(left) or 'nothing'}"
        return Claim("", stayed > 0 and not left, seen)


def _done_by(moment: float, dialling: Dialling) -> int:
    """Connections that may have been made before the moment: the first report after it."""
    while (line := dialling.progress()) is not None:
        if line["at"] > moment:
            return int(line["done"])
    return IN_FLIGHT


def _shares(report: Report) -> str:
    parts = [f"{name} {count}" for name, count in sorted(report.answers.items())]
    parts += [f"{count} x {reason}" for reason, count in sorted(report.errors.items())]
    speed = f", p50 {report.microseconds['p50']:.0f} µs" if report.microseconds else ""
    return ", ".join(parts) + speed


def _spread(report: Report, vip: str, names: set[str]) -> Claim:
    """All answered, by these three in fair shares, and the client saw the VIP as its peer."""
    fair = all(FEWEST <= count <= MOST for count in report.answers.values())
    good = report.ok and set(report.answers) == names and fair and set(report.peers) == {vip}
    peers = "" if set(report.peers) == {vip} else f"; peers {', '.join(report.peers)}"
    return Claim("", good, _shares(report) + peers)


def _refused(report: Report) -> Claim:
    good = report.errors == {"ECONNREFUSED": report.connections}
    each = report.seconds / report.connections * 1000
    return Claim("", good, f"{_shares(report)}, {each:.1f} ms each")
