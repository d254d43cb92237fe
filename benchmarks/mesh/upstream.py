"""The agent in Go, whose contract kmesh keeps, as far as it can be run without Kubernetes.

It gets what its DaemonSet gives it: a Kubernetes API (see kubeapi), a control plane with TLS,
tokens and roots at their fixed places (in a mount namespace of its own), a CNI folder. Pods are
enrolled by its "control connection": a connect() to 0.0.0.2:929 inside the pod.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from benchmarks import _agent
from benchmarks._server import Server
from benchmarks._stage import Failed, Place, listening
from benchmarks.mesh.contend import Contender, Facts, Options
from benchmarks.mesh.ours import populate
from benchmarks.mesh.site import vip

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks._stage import Stage
    from benchmarks.mesh.site import Site

ADMIN_PORT = 15200
CONTROL = "0.0.0.2"
ENROL = f"""
import errno, socket
control = socket.socket()
control.setblocking(False)
code = control.connect_ex(("{CONTROL}", 929))
raise SystemExit(code not in (0, errno.EINPROGRESS) and "control connection failed")
"""
# Its files have fixed names; a tmpfs in a mount namespace of its own keeps them from the machine.
SCRIPT = """
mount -t tmpfs tmpfs /var/run
mkdir -p /var/run/secrets
cp -r "$1/." /var/run/secrets
shift
exec "$@"
"""


class Files:
    """Certificates and folders of one instance, below the stage's folder."""

    def __init__(self, folder: Path) -> None:
        import trustme

        self.secrets, self.cni = folder / "secrets", folder / "cni"
        self.server = folder / "server.pem"
        self.cni.mkdir(parents=True)
        authority = trustme.CA()
        certificate = authority.issue_cert("127.0.0.1", "localhost", "istiod.istio-system.svc")
        certificate.private_key_and_cert_chain_pem.write_to_path(str(self.server))
        account = self.secrets / "kubernetes.io" / "serviceaccount"
        for where in (account, self.secrets / "istio", self.secrets / "tokens"):
            where.mkdir(parents=True)
        for name in (account / "ca.crt", self.secrets / "istio" / "root-cert.pem"):
            authority.cert_pem.write_to_path(str(name))
        for name in (account / "token", self.secrets / "tokens" / "istio-token"):
            name.write_text("benchmark")
        (account / "namespace").write_text("kmesh-system")
        conflist = {"cniVersion": "0.3.1", "name": "bench", "plugins": [{"type": "bridge"}]}
        (self.cni / "10-bench.conflist").write_text(json.dumps(conflist))


def environment(xds: str, api_port: str) -> dict[str, str]:
    """What its pod would be told."""
    return {
        "XDS_ADDRESS": xds,
        "KUBERNETES_SERVICE_HOST": "127.0.0.1",
        "KUBERNETES_SERVICE_PORT": api_port,
        "NODE_NAME": _agent.NODE,
        "POD_NAME": "kmesh-bench",
        "POD_NAMESPACE": "kmesh-system",
        "SERVICE_ACCOUNT": "kmesh",
        "INSTANCE_IP": "127.0.0.1",
        "CLUSTER_ID": "Kubernetes",
    }


def flags(bpffs: str, cgroup2: str, files: Files) -> list[str]:
    """Its options; it would ignore one that is misspelt."""
    return [
        "--mode=dual-engine",
        f"--bpf-fs-path={bpffs}",
        f"--cgroup2-path={cgroup2}",
        f"--cni-etc-path={files.cni}",
        "--monitoring=true",
    ]


def kmesh(stage: Stage, site: Site, options: Options) -> Contender:
    """The Go agent with the mesh that ours has; its programs are on the site's cgroup."""
    assert options.kmesh is not None
    files, works = Files(stage.folder / site.name), stage.cgroup(site.name)
    inside = stage.namespace()  # its ports are fixed
    server = Server(stage, Place(inside), files.server)
    server.call("mesh", workloads=options.services * options.endpoints, services=options.services)
    populate(server, site)
    pods = [f"{pod.name},{pod.address}" for pod in site.pods]
    command = [sys.executable, "-m", "benchmarks.mesh.kubeapi", str(files.server), _agent.NODE]
    api = stage.start([*command, *pods], Place(inside), wait=True)
    assert api.stdout is not None
    variables = environment(server.address, api.stdout.readline().strip())
    bpffs = stage.mount(f"{site.name}-bpf", "-t", "bpf", "bpf")
    cgroup2 = stage.mount(f"{site.name}-cgroup2", "--bind", str(site.group))
    process = stage.start(
        ["env", *(f"{name}={value}" for name, value in variables.items()),
         "unshare", "--mount", "sh", "-ec", SCRIPT, "sh", str(files.secrets),
         str(options.kmesh), *flags(bpffs, cgroup2, files)],
        Place(inside, works),
    )  # fmt: skip
    try:
        listening(process.pid, ADMIN_PORT, inside)
    except Failed as failed:
        raise Failed(f"{failed}: {stage.last_words(process)}") from failed
    server.call("acked")
    for pod in site.pods:
        stage.route(pod.netns, [CONTROL])  # a pod of Kubernetes has a default route
        stage.run([sys.executable, "-c", ENROL], pod.place)
    facts = Facts(
        "the binary given",
        "random, per connection",
        "none",
        "by source address, checked in user space or by XDP",
        "none: connect() is given the endpoint's address",
    )
    return Contender(site, vip, (works,), facts)
