"""nftables rules: service addresses as kube-proxy translates them, and redirection to a proxy."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

OUTBOUND_PORT, INBOUND_PORT, HBONE_PORT = 15001, 15006, 15008
MARK, CONNECTION_MARK, MASK = 0x539, 0x111, 0xFFF
Key = tuple[str, int]
"""Address and port of a service."""


def dnat(services: Mapping[Key, Sequence[str]], others: Iterable[Key] = ()) -> str:
    """One look-up by address, protocol and port, then a random endpoint (``address:port``), which
    is how kube-proxy does it. ``others`` are services that fill the table and lead nowhere."""
    chains, elements = [], []
    for index, ((vip, port), endpoints) in enumerate(services.items()):
        chains.append(_chain(f"service-{index}", endpoints))
        elements += _elements(vip, port, f"service-{index}")
    for vip, port in others:
        elements += _elements(vip, port, "service-0")
    some = f"elements = {{ {', '.join(elements)} }}" if elements else ""
    return f"""table ip bench {{
    map services {{
        type ipv4_addr . inet_proto . inet_service : verdict
        {some}
    }}
{"".join(chains)}    chain output {{
        type nat hook output priority -100
        ip daddr . meta l4proto . th dport vmap @services
    }}
}}
"""


def _elements(vip: str, port: int, chain: str) -> list[str]:
    return [f"{vip} . {protocol} . {port} : goto {chain}" for protocol in ("tcp", "udp")]


def _chain(name: str, endpoints: Sequence[str]) -> str:
    pairs = [one.replace(":", " . ") for one in endpoints]
    choices = ", ".join(f"{index} : {one}" for index, one in enumerate(pairs))
    to = f"numgen random mod {len(pairs)} map {{ {choices} }}"
    return f"""    chain {name} {{
        meta l4proto {{ tcp, udp }} dnat ip to {to}
    }}
"""


def redirect(*, inbound: bool, spoofed: bool = False) -> str:
    """TCP that leaves a pod goes to its proxy, with ``inbound`` also what comes in; the proxy's
    own connections carry a mark. ``spoofed`` adds what a proxy needs that dials with its client's
    address: answers must find the way back to it (policy routing is ``ROUTING``)."""
    rules = f"""table ip bench {{
    chain output {{
        type nat hook output priority -100
        meta l4proto tcp meta mark & {MASK:#x} == {CONNECTION_MARK:#x} accept
        oifname "lo" ip daddr != 127.0.0.1 accept
        ip daddr != 127.0.0.1 meta l4proto tcp meta mark & {MASK:#x} != {MARK:#x} \
redirect to :{OUTBOUND_PORT}
    }}
"""
    if inbound:
        rules += f"""    chain prerouting {{
        type nat hook prerouting priority -100
        ip daddr != 127.0.0.1 tcp dport != {HBONE_PORT} meta mark & {MASK:#x} != {MARK:#x} \
redirect to :{INBOUND_PORT}
    }}
"""
    if spoofed:
        rules += f"""    chain mangle_prerouting {{
        type filter hook prerouting priority -150
        meta mark & {MASK:#x} == {MARK:#x} ct mark set {CONNECTION_MARK:#x}
    }}
    chain mangle_output {{
        type route hook output priority -150
        ct mark & {MASK:#x} == {CONNECTION_MARK:#x} meta mark set {CONNECTION_MARK:#x}
    }}
"""
    return rules + "}\n"


ROUTING = f"""rule add fwmark {CONNECTION_MARK:#x}/{MASK:#x} pref 32764 lookup 100
route add local default dev lo table 100
"""
