"""Whose program is it? Programs of others at the hooks that kmesh uses, by their names.

The kernel keeps the first 15 bytes of a program's name.
"""

from __future__ import annotations

from typing import NamedTuple

OURS = "km_"


class Owner(NamedTuple):
    """Who attaches programs with such a name, what that means for the mesh, what to do."""

    name: str
    means: str
    next_step: str


_SERVICES_FIRST = (
    "it may replace a service's address by an endpoint's before kmesh sees it: such connections "
    "are not steered, and look like connections to a pod"
)
CILIUM = Owner(
    "Cilium's socket load balancer",
    _SERVICES_FIRST,
    "Set socketLB.hostNamespaceOnly=true and cni.exclusive=false in Cilium's Helm values.",
)
CALICO = Owner(
    "Calico's connect-time load balancer",
    _SERVICES_FIRST,
    "Set bpfConnectTimeLoadBalancing to Disabled in FelixConfiguration.",
)
MERBRIDGE = Owner(
    "Merbridge",
    "it redirects connections of sidecars at the same hooks",
    "Remove it from nodes where kmesh runs.",
)
UPSTREAM = Owner(
    "an upstream Kmesh agent",
    "two meshes would steer the same connections",
    "Stop that agent and remove its pins (kmesh-daemon uninstall) before this one runs.",
)
TWIN = Owner(
    "another kmesh agent, with other pins",
    "two meshes steer the same connections",
    "Run one agent on a node; `kmesh uninstall --bpf-fs-path` removes what another one left.",
)
SYSTEMD = Owner(
    "systemd", "it limits sockets of its units and changes no address", "Nothing to do."
)
STRANGER = Owner(
    "an unknown program",
    "it may change or refuse connections before or after kmesh",
    "Find its owner with `bpftool prog show id ID` and `bpftool link`.",
)

KNOWN: tuple[tuple[str, Owner], ...] = (
    ("cgroup_connect4", UPSTREAM),
    ("cgroup_connect6", UPSTREAM),
    ("cgroup_sendmsg", UPSTREAM),
    ("sockops_prog", UPSTREAM),
    ("sock4_", CILIUM),
    ("sock6_", CILIUM),
    ("cil_", CILIUM),
    ("calico_", CALICO),
    ("cali_", CALICO),
    ("mb_sock", MERBRIDGE),
    ("mb_", MERBRIDGE),
    ("sd_", SYSTEMD),
)


def owner(name: str, *, pinned: bool = False) -> Owner | None:
    """Who a program belongs to; None when it is kmesh's own: ``pinned`` by this installation."""
    if name.startswith(OURS):
        return None if pinned else TWIN
    return next((found for start, found in KNOWN if name.startswith(start)), STRANGER)
