"""kmesh as users run it: the agent with its programs, a control plane, enrolled pods."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks import _agent, _shapes
from benchmarks._server import Server
from benchmarks._stage import Failed, settle, used_us
from benchmarks.mesh.contend import Contender, Facts, Options
from benchmarks.mesh.site import SERVICES, vip
from kmesh import __version__

if TYPE_CHECKING:
    from benchmarks._stage import Stage
    from benchmarks.mesh.site import Site

NO_AUDIT = ("--audit-interval", "never")  # it would meet some turns and not their neighbours


def kmesh(stage: Stage, site: Site, options: Options) -> Contender:
    """All pods of the site are on one node and enrolled; the agent holds the large mesh too."""
    server = Server(stage)
    workloads = options.services * options.endpoints
    server.call("mesh", workloads=workloads, services=options.services)
    populate(server, site)
    agent = _agent.start(stage, server.address, site.name, *NO_AUDIT, pods=site.group)
    total = workloads + len(site.pods), options.services + len(SERVICES)
    agent.wait(_agent.synced(*total))
    for pod in site.pods:
        agent.client.enrol(pod.netns, _shapes.uid(pod.name))
    agent.wait(lambda state: bool(state["synced"]))
    facts = Facts(
        __version__,
        "random, per connection",
        "none",
        "by source address, checked where a connection is accepted",
        "none: connect() is given the endpoint's address",
        f"an audit once a minute, {_audit_s(agent):.2f} s of CPU",
    )
    return Contender(site, vip, (agent.cgroup,), facts, check=lambda: _check(agent))


def _audit_s(agent: _agent.Agent) -> float:
    """CPU seconds of an audit of a mesh like this."""
    settle([agent.cgroup])
    before = used_us(agent.cgroup)
    agent.client.audit()
    return (used_us(agent.cgroup) - before) / 1e6


def populate(server: Server, site: Site) -> None:
    """Tell a control plane about a site."""
    for name, one in SERVICES.items():
        server.call("service", name=name, vip=one.vip, ports=[(one.port, one.target)])
    for number, pod in enumerate(site.servers):
        of = {name: [(one.port, one.target)]
              for name, one in SERVICES.items() if number in one.where}  # fmt: skip
        server.call("pod", name=pod.name, address=pod.address, of=of, node=_agent.NODE)
    for pod in site.clients:
        server.call("pod", name=pod.name, address=pod.address, of={}, node=_agent.NODE)


def _check(agent: _agent.Agent) -> None:
    reasons = agent.client.state()["kernel"]["reasons"]
    if not reasons.get("connect4 balanced"):
        raise Failed(f"kmesh balanced nothing: {reasons}")
