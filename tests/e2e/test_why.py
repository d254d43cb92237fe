"""kmesh why against a real agent: by names, with the kernel's tables damaged by hand, offline."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from kmesh.bpf import lib
from kmesh.cli.main import main
from tests.e2e.agent import uid
from tests.e2e.peers import pod, policy, service

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.agent import Agent
    from tests.e2e.peers import Plane
    from tests.kernel.net import Namespace

pytestmark = pytest.mark.e2e


class Asker:
    """The command, with what it printed."""

    def __init__(self, agent: Agent, capsys: pytest.CaptureFixture[str]) -> None:
        self._agent, self._capsys = agent, capsys

    def text(self, *words: str) -> tuple[int, str]:
        code = main(["why", "--run-dir", str(self._agent.run_dir), *words])
        shown = self._capsys.readouterr()
        return code, shown.out + shown.err

    def json(self, *words: str) -> tuple[int, dict[str, Any]]:
        code, shown = self.text("-o", "json", *words)
        return code, orjson.loads(shown)


@pytest.fixture
def asker(
    agent: Agent,
    plane: Plane,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> Asker:
    netns: Namespace = request.getfixturevalue("pod")
    plane.apply(
        service("shop/web.shop.svc.cluster.local", "10.96.0.1"),
        service("shop/none.shop.svc.cluster.local", "10.96.0.2"),
        pod("web-0", "10.1.0.1", of="shop/web.shop.svc.cluster.local"),
        pod("web-1", "10.1.0.9", of="shop/web.shop.svc.cluster.local"),
        pod("client", "10.1.0.2"),
        policy("ports", {"destinationPorts": [8080]}),
    )
    agent.start_synced()
    agent.enrol(netns, "client")
    return Asker(agent, capsys)


def test_a_service_by_name_with_every_layer(asker: Asker) -> None:
    code, found = asker.json("default/client", "web.shop")
    assert (code, found["allowed"], found["differs"]) == (0, True, None)
    assert found["frontend"]["service"] == "shop/web.shop.svc.cluster.local"
    assert [each["workload"] for each in found["endpoints"]] == [uid("web-0"), uid("web-1")]
    layers = [found["layers"][name] for name in ("desired", "planned", "kernel")]
    assert layers[0] == layers[1] == layers[2]
    assert len(layers[2]["endpoints"]) == 2
    code, shown = asker.text(uid("client"), "10.96.0.1:80")
    assert code == 0
    assert "2 of 2 chosen" in shown
    assert shown.rstrip().endswith("allowed: allowed by default/ports, rule 1")


def test_refused_unknown_and_denied(asker: Asker) -> None:
    code, shown = asker.text("default/client", "none.shop:80")
    assert (code, "denied: no endpoint" in shown) == (1, True)
    code, shown = asker.text("default/client", "web.shop:81")
    assert (code, "has no port 81" in shown) == (1, True)
    code, found = asker.json("10.1.0.1", "10.1.0.2:22")
    assert (code, found["allowed"], found["admission"][0]["kernel"]["reason"]) == (
        1, False, found["reason"],
    )  # fmt: skip
    code, shown = asker.text("default/client", "nobody.shop:80")
    assert (code, "KM1803" in shown) == (1, True)


def test_a_damaged_kernel_table_is_named(agent: Agent, asker: Asker) -> None:
    fd = lib.pinned(f"{agent.bpffs}/kmesh/maps/km_vip")
    assert fd is not None
    with contextlib.closing(os.fdopen(fd)):
        for key, _ in list(lib.rows(fd)):
            lib.delete(fd, key)
    code, found = asker.json("default/client", "web.shop:80")
    assert (code, found["differs"]["layer"]) == (1, "kernel")
    assert found["layers"]["kernel"]["reason"] == "not_mesh"
    _, shown = asker.text("default/client", "web.shop:80")
    assert "DIFFERS" in shown


def test_a_bundle_gives_the_same_answer(agent: Agent, asker: Asker, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.tar.gz"
    _, live = asker.json("default/client", "web.shop:80")
    _, barred = asker.json("10.1.0.1", "10.1.0.2:22")
    options = ["--run-dir", str(agent.run_dir), "--bpf-fs-path", str(agent.bpffs)]
    assert main(["bundle", *options, "-o", str(bundle)]) == 0
    agent.stop()
    asker.text("default/client", "web.shop:80")
    code, found = asker.json("--bundle", str(bundle), "default/client", "web.shop:80")
    assert (code, found["differs"]) == (0, None)
    assert found["layers"] == live["layers"]
    assert found["endpoints"] == live["endpoints"]
    code, found = asker.json("--bundle", str(bundle), "10.1.0.1", "10.1.0.2:22")
    assert code == 1
    assert found["admission"] == barred["admission"]
