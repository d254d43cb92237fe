"""Nothing between two system calls is ever wrong: changes, growth, restarts under connections."""

from __future__ import annotations

import errno
import random
import threading
import time
from typing import TYPE_CHECKING

import pytest

from kmesh.abi.layout import Reason
from kmesh.bpf import lib, load, loader, objects
from kmesh.bpf.fake import FakeKernel
from kmesh.core import addr
from kmesh.core.model import Mode, Scope, Visibility
from kmesh.errors import CapacityError
from tests.core import meshes
from tests.core.meshes import WEB, service, uid, workload
from tests.kernel.mesh import SMALL, Mesh, dial, refused
from tests.waiting import SLOW

if TYPE_CHECKING:
    from collections.abc import Callable

    from kmesh.core.model import Service, Workload
    from tests.kernel.net import Namespace, Servers

pytestmark = pytest.mark.kernel
MOST = 4000


class Hammer:
    """Connects without pause until told to stop (at most ``MOST`` times), in two threads."""

    def __init__(self, pod: Namespace, address: str, port: int) -> None:
        self._stop, self._made = threading.Event(), threading.Event()
        self.answers: list[str] = []
        self.errors: list[OSError] = []

        def work() -> None:
            for _ in range(MOST):
                if self._stop.is_set():
                    return
                try:
                    self.answers.append(dial(pod, address, port))
                except OSError as error:
                    self.errors.append(error)
                self._made.set()

        self._threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in self._threads:
            thread.start()

    def during(self, change: Callable[[], None], least: int = 200) -> None:
        """Repeat a change until ``least`` connections were made beside it, one at least for each:
        without a pause the changes would keep the interpreter to themselves."""
        deadline = time.monotonic() + 30 * SLOW
        while len(self.answers) + len(self.errors) < least:
            assert time.monotonic() < deadline, "no connections are made"
            self._made.clear()
            change()
            self._made.wait(1.0)

    def stop(self) -> None:
        """End, and wait for the threads."""
        self._stop.set()
        for thread in self._threads:
            thread.join()


def test_a_set_of_endpoints_is_replaced_whole(mesh: Mesh, pod: Namespace, servers: Servers) -> None:
    """Set A listens on port 1001 only, set B on 1002 only: any mixture would be refused."""
    mesh.enrol(pod)
    for last, port in ((1, 1001), (2, 1001), (3, 1002), (4, 1002)):
        servers.tcp(f"10.1.0.{last}", port)
    one = [workload("a", "10.1.0.1", of=WEB), workload("b", "10.1.0.2", of=WEB)]
    two = [workload("a", "10.1.0.3", of=WEB), workload("b", "10.1.0.4", of=WEB)]
    first, second = (
        service(WEB, "10.9.0.1", ports=((80, 1001),)),
        service(WEB, "10.9.0.1", ports=((80, 1002),)),
    )
    mesh.put(first, *one)

    def swap() -> None:
        mesh.put(second, *two)
        mesh.put(first, *one)

    hammer = Hammer(pod, "10.9.0.1", 80)
    try:
        hammer.during(swap, 600)
    finally:
        hammer.stop()
    assert hammer.errors == []
    assert set(hammer.answers) <= {
        "10.1.0.1:1001",
        "10.1.0.2:1001",
        "10.1.0.3:1002",
        "10.1.0.4:1002",
    }
    assert mesh.count("CONNECT4", "INCONSISTENT") == 0


def test_tables_grow_under_connections(mesh: Mesh, pod: Namespace, servers: Servers) -> None:
    mesh.enrol(pod)
    servers.tcp("10.1.0.1", 8080)
    mesh.put(workload("a", "10.1.0.1", of=WEB), service(WEB, "10.9.0.1"))
    hammer = Hammer(pod, "10.9.0.1", 80)
    try:
        for least, size in ((50, (512, 256)), (100, (512, 512)), (150, (1024, 1024))):
            mesh.tables.grow(*size)
            hammer.during(lambda: time.sleep(0.001), least)
    finally:
        hammer.stop()
    assert hammer.errors == []
    assert mesh.tables.capacity() == (1024, 1024)
    mesh.put(workload("a", "10.1.0.1", of=WEB, ports=((80, 8080),)))
    assert dial(pod, "10.9.0.1", 80) == "10.1.0.1:8080"


def test_growth_beyond_the_limit_is_refused_with_everything_as_it_was(mesh: Mesh) -> None:
    before = mesh.tables.scan()
    with pytest.raises(CapacityError, match="--max-vips is 1024"):
        mesh.tables.grow(2048, 0)
    with pytest.raises(CapacityError, match="--max-slots is 1024"):
        mesh.tables.grow(0, 2048)
    assert mesh.tables.scan() == before
    assert mesh.tables.capacity() == (SMALL.vips, SMALL.slots)


def test_a_restart_under_connections_fails_none(
    mesh: Mesh, pod: Namespace, servers: Servers
) -> None:
    mesh.enrol(pod)
    servers.tcp("10.1.0.1", 8080)
    mesh.put(workload("a", "10.1.0.1", of=WEB), service(WEB, "10.9.0.1"))
    bpffs = mesh.plane.root.removesuffix("/kmesh")

    def restart() -> None:
        mesh.plane.close()
        mesh.plane = load.start(bpffs, "", SMALL)

    hammer = Hammer(pod, "10.9.0.1", 80)
    try:
        hammer.during(restart, 400)
    finally:
        hammer.stop()
    assert hammer.errors == []


def test_links_are_replaced_and_not_added(mesh: Mesh) -> None:
    def programs() -> dict[str, int]:
        found = {}
        for hook in objects.CGROUP:
            link = lib.pinned(f"{mesh.plane.root}/links/{hook}")
            assert link is not None
            found[hook] = lib.link_info(link).program
            loader.close([link])
        return found

    before = programs()
    mesh.tables.grow(512, 512)
    after = programs()
    assert before.keys() == after.keys()
    assert not set(before.values()) & set(after.values())


@pytest.mark.parametrize("seed", range(5))
def test_the_fake_decides_as_the_kernel_does(
    bpffs: str, pod: Namespace, servers: Servers, seed: int
) -> None:
    """Random meshes written to both: whatever the kernel answers, the fake allows."""
    for ip in ("10.1.0.1", "10.1.0.2", "10.1.0.3", "10.1.0.4", "fd01::1", "fd01::2"):
        for port in (8080, 8443, 9090):
            servers.tcp(ip, port)
    dice = random.Random(seed)
    mesh, fake = Mesh(bpffs, SMALL), FakeKernel(256, 256)
    try:
        mesh.enrol(pod, "a")
        for _ in range(12):
            mesh.put(random_workload(dice), random_service(dice))
            found = mesh.tables.scan()
            fake.tables = {
                "km_vip": found.vips, "km_cidr": found.cidrs, "km_enrol": found.enrols,
                "km_pod": found.pods, "km_config": {bytes(4): found.config},
            }  # fmt: skip
            fake.slots = bytearray(found.slots)
            for ip in ("10.9.0.1", "10.9.0.2", "10.9.0.7", "fd09::1"):
                for port in (80, 443, 1):
                    agree(fake, pod, ip, port)
    finally:
        mesh.close()


def agree(fake: FakeKernel, pod: Namespace, ip: str, port: int) -> None:
    raw = addr.parse(ip)
    view = int.from_bytes(fake.tables["km_enrol"][pod.cookie.to_bytes(8, "little")][4:8], "little")
    expected = fake.endpoints(raw, port, view)
    try:
        answer = dial(pod, ip, port)
    except OSError as error:
        assert not isinstance(expected, set), (ip, port, expected)
        passed = expected.reason in (Reason.NOT_MESH, Reason.PASSTHROUGH, Reason.INVISIBLE)
        assert error.errno == (errno.ENETUNREACH if passed else refused()), (ip, port, expected)
        return
    assert isinstance(expected, set), (ip, port, expected)
    allowed = {f"{addr.text(d.addr)}:{d.port}" for d in expected}
    assert answer in allowed


def random_workload(dice: random.Random) -> Workload:
    ips = dice.sample(("10.1.0.1", "10.1.0.2", "10.1.0.3", "10.1.0.4", "fd01::1", "fd01::2"), 2)
    return workload(
        dice.choice("abcd"), *ips, of=tuple(dice.sample(meshes.KEYS, dice.randint(0, 2))),
        profile=dice.choice(meshes.PLACES), healthy=dice.random() < 0.8,
        capacity=dice.choice((1, 1, 2, 0)),
    )  # fmt: skip


def random_service(dice: random.Random) -> Service:
    ports = dice.sample(((80, 8080), (443, 8443), (90, 9090)), 2)
    return service(
        dice.choice(meshes.KEYS), *dice.sample(meshes.VIPS, 2), ports=tuple(ports),
        mode=dice.choice(list(Mode)), preference=(Scope.NODE,),
        canonical=dice.random() < 0.5, visibility=dice.choice(list(Visibility)),
    )  # fmt: skip


def test_an_endpoint_that_goes_takes_no_new_connection(
    mesh: Mesh, pod: Namespace, servers: Servers
) -> None:
    mesh.enrol(pod)
    for last in (1, 2):
        servers.tcp(f"10.1.0.{last}", 8080)
        mesh.put(workload(f"w{last}", f"10.1.0.{last}", of=WEB))
    mesh.put(service(WEB, "10.9.0.1"))
    mesh.remove(uid("w1"))
    assert {dial(pod, "10.9.0.1", 80) for _ in range(50)} == {"10.1.0.2:8080"}
