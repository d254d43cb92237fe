"""Namespaces of a lab: pods joined by a bridge that has a namespace of its own.

Addresses are single hosts (/32, /128) and each pod has a route to each other pod only: what is not
a pod of the lab is unreachable from inside, so a VIP that nobody translates fails with ENETUNREACH.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from kmesh.errors import LabError
from kmesh.lab.spec import HUB, prefix

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kmesh.lab.spec import Pod

RUN_NETNS = Path("/run/netns")


def path(netns: str) -> Path:
    """Where a namespace can be opened."""
    return RUN_NETNS / netns


def existing(lab: str) -> list[str]:
    """Names of all namespaces of a lab, the hub included."""
    start = prefix(lab)
    if not RUN_NETNS.is_dir():
        return []
    return sorted(name for name in os.listdir(RUN_NETNS) if name.startswith(start))


def has_ipv6() -> bool:
    """Whether this kernel has IPv6."""
    return Path("/proc/net/if_inet6").exists()


def make_hub(lab: str) -> None:
    """Make the bridge's namespace."""
    hub = prefix(lab) + HUB
    _ip("netns", "add", hub)
    _batch(hub, ["link add br0 type bridge mcast_snooping 0", "link set br0 up"])


def make_pod(lab: str, pod: Pod, port: int, *, ipv6: bool) -> None:
    """Make a pod's namespace, its addresses, and its place ``p<port>`` at the bridge."""
    _ip("netns", "add", pod.netns)
    plug = [
        f"link add p{port} type veth peer name eth0 netns {pod.netns}",
        f"link set p{port} master br0 up",
    ]
    _batch(prefix(lab) + HUB, plug)
    # Without a link-local address there is no duplicate address detection to wait for.
    quiet = ["link set eth0 addrgenmode none"] if ipv6 else []
    addresses = [f"addr add {_host(one)} dev eth0{_nodad(one)}" for one in _usable(pod, ipv6)]
    _batch(pod.netns, ["link set lo up", *quiet, "link set eth0 up", *addresses])


def connect_pods(pods: Sequence[Pod], *, ipv6: bool) -> None:
    """Give every pod a route to every other pod, and to nothing else."""
    for pod in pods:
        others = [one for other in pods if other is not pod for one in _usable(other, ipv6)]
        mine = {":" in one for one in _usable(pod, ipv6)}
        reachable = [one for one in others if (":" in one) in mine]
        _batch(pod.netns, [f"route replace {_host(one)} dev eth0" for one in reachable])


def remove(lab: str, netns: str, port: int | None) -> None:
    """Remove one namespace; absent parts are fine."""
    hub = prefix(lab) + HUB
    if port is not None and path(hub).exists():
        # The kernel tears a namespace down later; the name of the plug must be free at once.
        _ip("-n", hub, "link", "del", f"p{port}", check=False)
    if path(netns).exists():
        _ip("netns", "del", netns)


def _usable(pod: Pod, ipv6: bool) -> list[str]:
    return [one for one in pod.addresses if ipv6 or ":" not in one]


def _host(address: str) -> str:
    return f"{address}/{128 if ':' in address else 32}"


def _nodad(address: str) -> str:
    return " nodad" if ":" in address else ""


def _batch(netns: str, lines: Iterable[str]) -> None:
    text = "\n".join(lines)
    if text:
        _ip("-n", netns, "-batch", "-", stdin=text + "\n")


def _ip(*args: str, stdin: str = "", check: bool = True) -> None:
    try:
        done = subprocess.run(
            ["ip", *args],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            start_new_session=True,  # a Ctrl-C must not reach it half-way
        )
    except FileNotFoundError as error:
        raise LabError("the program ip is missing", "Install the package iproute2.") from error
    if check and done.returncode != 0:
        reason = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
        raise LabError(
            f"ip {' '.join(args)}: {reason}",
            "A lab needs root with CAP_NET_ADMIN and CAP_SYS_ADMIN.",
        )
