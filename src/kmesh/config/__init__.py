"""Every option of the agent once: field, flag, environment, default, allowed values, help.

``Config`` is the table; the parser, ``--help``, the environment and the defaults are made from it.
Precedence: flag, then environment, then default.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from kmesh import options
from kmesh.config.control import ControlPlane, Identity
from kmesh.config.data import DataPlane
from kmesh.config.process import Observability, Process
from kmesh.core.events import Json, Node
from kmesh.core.options import XdsOptions
from kmesh.options import Option, Parser

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping, Sequence


@dataclass(frozen=True, kw_only=True)
class Config(Observability, Process, DataPlane, ControlPlane, Identity):
    """The agent's settings; times in seconds, sizes in bytes. Help lists them from the last base
    to the first."""

    def node(self) -> Node:
        """The identity that the control plane sees. What has an option of its own wins over
        ISTIO_META_* of the same name."""
        own: dict[str, Json] = {
            "NAME": self.pod_name,
            "NAMESPACE": self.pod_namespace,
            "INSTANCE_IPS": self.instance_ip,
            "NODE_NAME": self.node_name,
            "CLUSTER_ID": self.cluster_id,
            "NETWORK": self.network,
            "SERVICE_ACCOUNT": self.service_account,
        }
        metadata: dict[str, Json] = {**dict(self.metadata), **dict(self.metadata_json)}
        metadata |= {name: value for name, value in own.items() if value}
        pod, space = f"{self.pod_name}.{self.pod_namespace}", self.pod_namespace
        node_id = f"ztunnel~{self.instance_ip}~{pod}~{space}.svc.cluster.local"
        return Node(node_id, "", metadata)

    def xds(self) -> XdsOptions | None:
        """Settings of the xDS client; None when there is no control plane."""
        if self.xds_address is None:
            return None
        return XdsOptions(
            target=self.xds_address,
            root_ca=self.xds_root_ca,
            server_name=self.xds_server_name,
            tls12=self.xds_tls12,
            token=self.auth_token,
            cluster=self.cluster_id,
            headers=self.xds_headers,
            window=self.xds_window,
            keepalive=self.xds_keepalive,
            keepalive_timeout=self.xds_keepalive_timeout,
            apply_deadline=self.apply_deadline,
        )


def table() -> Iterator[tuple[str, Option]]:
    """(field, option) of every row."""
    for each in fields(Config):
        yield each.name, each.metadata["option"]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add every option to a parser; the variables without a flag go to its epilog."""
    options.add(parser, table())


def load(arguments: Mapping[str, str | None], environ: Mapping[str, str]) -> Config:
    """The configuration from parsed flags by field (``vars`` of a namespace; None is not given)
    and the environment. Raises ConfigError naming the flag or variable and what is allowed."""
    found = {name: options.read(row, arguments.get(name), environ) for name, row in table()}
    return Config(**found)


def parse(argv: Sequence[str], environ: Mapping[str, str], prog: str = "kmesh") -> Config:
    """Flags and environment to a configuration. Raises ConfigError; ``--help`` exits."""
    parser = Parser(prog=prog)
    add_options(parser)
    return load(vars(parser.parse_args(argv)), environ)
