"""Upstream's and ztunnel's shapes, field by field."""

from __future__ import annotations

import json

import pytest
from hypothesis import given

from kmesh.controlplane.file import parse
from kmesh.core import addr
from kmesh.core.model import (
    Action,
    Authorization,
    Identity,
    Match,
    PolicyScope,
    Profile,
    Resource,
    Service,
    StringMatch,
    Workload,
)
from kmesh.core.views import (
    Chosen,
    upstream_policy,
    upstream_service,
    upstream_workload,
    ztunnel_policy,
)
from tests.core.policies import policy_lists
from tests.wire.test_dump import FULL_SERVICE, FULL_WORKLOAD, shown


def test_a_full_workload() -> None:
    assert upstream_workload(shown(FULL_WORKLOAD)) == {
        "uid": "u",
        "addresses": ["10.0.0.1", "fd00::1"],
        "waypoint": "ns/way",
        "protocol": "HBONE",
        "name": "n",
        "namespace": "ns",
        "serviceAccount": "sa",
        "workloadName": "wn",
        "workloadType": "JOB",
        "canonicalName": "cn",
        "canonicalRevision": "v1",
        "clusterId": "c",
        "trustDomain": "td",
        "locality": {"region": "r", "subzone": "s"},
        "node": "node",
        "network": "net",
        "status": "UNHEALTHY",
        "applicationTunnel": {"protocol": "PROXY", "port": 15088},
        "services": ["ns/h"],
        "authorizationPolicies": ["ns/p"],
    }


def test_a_small_workload() -> None:
    from kmesh.wire.gen.istio import workload as wds

    found = upstream_workload(shown(wds.Address(workload=wds.Workload(uid="u"))))
    assert (found["protocol"], found["status"], found["workloadType"]) == (
        "NONE", "HEALTHY", "DEPLOYMENT",
    )  # fmt: skip
    assert (found["services"], found["authorizationPolicies"]) == ([], [])
    assert "waypoint" not in found


def test_a_full_service() -> None:
    assert upstream_service(shown(FULL_SERVICE)) == {
        "name": "s",
        "namespace": "ns",
        "hostname": "h",
        "vips": ["/10.0.0.1", "net/fd00::1", "/10.0.0.1/8"],
        "ports": [
            {"service_port": 80, "target_port": 8080},
            {"service_port": 81, "target_port": 0},
        ],
        "loadBalancer": {"mode": "STRICT", "routingPreferences": ["REGION", "NETWORK"]},
        "waypoint": {"destination": "net/10.0.0.1"},
    }


def test_a_small_service() -> None:
    from kmesh.wire.gen.istio import workload as wds

    found = upstream_service(shown(wds.Address(service=wds.Service(name="s", hostname="h"))))
    assert found == {
        "name": "s", "namespace": "", "hostname": "h", "vips": [], "ports": [],
        "loadBalancer": None, "waypoint": None,
    }  # fmt: skip


POLICY = Authorization(
    "shop/deny", "shop", PolicyScope.WORKLOAD_SELECTOR, Action.DENY,
    ((
        (Match(
            namespaces=(StringMatch("exact", "a"), StringMatch("presence")),
            not_principals=(StringMatch("prefix", "cluster.local/"),),
            source_ips=((addr.parse("10.0.0.0"), 104), (addr.parse("fd00::"), 16)),
            destination_ports=(80,),
            not_service_accounts=(("shop", "web"),),
        ),),
    ),),
    True,
)  # fmt: skip


def test_a_policy() -> None:
    rules = [[[{
        "namespaces": [{"exact": "a"}, {"presence": None}],
        "notPrincipals": [{"prefix": "cluster.local/"}],
        "sourceIps": ["10.0.0.0/8", "fd00::/16"],
        "destinationPorts": [80],
        "notServiceAccounts": ["shop/web"],
    }]]]  # fmt: skip
    assert ztunnel_policy(POLICY) == {
        "name": "deny", "namespace": "shop", "scope": "WorkloadSelector", "action": "Deny",
        "dryRun": True, "rules": rules,
    }  # fmt: skip
    assert upstream_policy(POLICY) == {
        "name": "deny", "namespace": "shop", "scope": "WORKLOAD_SELECTOR", "action": "DENY",
        "rules": rules,
    }  # fmt: skip


@given(policy_lists(1).filter(bool).map(lambda found: found[0]))
def test_every_policy_means_the_same_as_an_entry_of_a_mesh_file(policy: Authorization) -> None:
    text = json.dumps({"policies": [ztunnel_policy(policy)]})
    assert parse(text.encode(), "m").policies == (policy,)


WEB = Resource("x", "1", b"", Workload(
    "c//Pod/shop/web-0", Identity(namespace="shop"), Profile(), (), ()))  # fmt: skip
SERVICE = Resource(
    "shop/web.shop.svc", "1", b"", Service("shop/web.shop.svc", "shop", "web.shop.svc", (), ())
)


@pytest.mark.parametrize(
    ("chosen", "web", "service", "policy"),
    [
        (Chosen(), True, True, True),
        (Chosen(namespace="shop"), True, True, True),
        (Chosen(namespace="bank"), False, False, False),
        (Chosen(name="web-0"), True, False, False),
        (Chosen(name="c//Pod/shop/web-0"), True, False, False),
        (Chosen("shop", "web"), False, True, False),
        (Chosen(name="web.shop.svc"), False, True, False),
        (Chosen("shop", "deny"), False, False, True),
        (Chosen("bank", "deny"), False, False, False),
    ],
)
def test_who_is_chosen(chosen: Chosen, web: bool, service: bool, policy: bool) -> None:
    assert chosen.has(WEB) is web
    assert chosen.has(SERVICE) is service
    assert chosen.has(Resource("shop/deny", "1", b"", POLICY)) is policy
