"""An agent without its tasks: adopts what is pinned, plans one of two meshes, applies the plan one
operation at a time, and kills itself after some of them.

``python -m tests.kernel.killed BPFFS MESH OPERATIONS NETNS``; MESH is ``old`` or ``new``. With more
operations than there are it ends with status 0 when the kernel is exactly as planned.
"""

from __future__ import annotations

import os
import signal
import sys

from kmesh.core.audit import Sweep
from kmesh.core.pictures import pictures
from kmesh.core.tables import Outcome
from tests.core.meshes import DB, WEB, service, workload
from tests.core.test_audit import POLICY
from tests.kernel.mesh import SMALL, Mesh

CLIENT = workload("client", "10.1.0.9")
OLD = (
    CLIENT,
    service(WEB, "10.9.0.1", ports=((80, 1001),)),
    workload("a", "10.1.0.1", of=WEB), workload("b", "10.1.0.2", of=WEB),
)  # fmt: skip
NEW = (
    CLIENT,
    service(WEB, "10.9.0.1", "10.9.1.0/24", ports=((80, 1002), (90, 1002))),
    workload("a", "10.1.0.3", of=WEB), workload("b", "10.1.0.4", of=WEB),
    service(DB, "10.9.0.2"),
)  # fmt: skip


def main() -> int:
    """Command line."""
    bpffs, name, most, netns = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
    mesh = Mesh(bpffs, SMALL)
    for cookie in mesh.steering.pods.wanted:
        mesh.tables.remember(cookie, netns)
    steering = mesh.steering
    found = NEW if name == "new" else OLD
    steering.put([(getattr(each, "uid", getattr(each, "key", "")), each) for each in found])
    steering.put_policies([(POLICY.key, POLICY)] if name == "new" else [])
    steering.start()
    steering.start_guarding()
    done, now = 0, 0.0
    while now < 30.0:
        ops = steering.next_ops(now)
        if not ops:
            now += 1.0  # what was retired goes
        for op in ops:
            outcome = mesh.tables.apply([op])
            assert outcome.error is None, outcome.error
            done += 1
            if done == most:
                os.kill(os.getpid(), signal.SIGKILL)
        steering.report(ops, Outcome(len(ops), None), now)
    sys.stdout.write(f"{done}\n")
    return differences(mesh)


def differences(mesh: Mesh) -> int:
    """How many rows are not as planned."""
    count = 0
    for picture in pictures(mesh.steering):
        sweep = Sweep(picture, mesh.tables, mesh.tables.sealed)
        while (step := sweep.step()) is not None:
            count += len(step[1])
    return count


if __name__ == "__main__":
    sys.exit(main())
