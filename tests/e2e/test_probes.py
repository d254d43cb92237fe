"""What the kubelet is told in each state of an agent."""

from __future__ import annotations

import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest

from tests.e2e.peers import free_port, pod, service
from tests.waiting import until

if TYPE_CHECKING:
    from tests.e2e.agent import Agent
    from tests.e2e.peers import PlaneProcess

pytestmark = pytest.mark.e2e


def probe(port: int, what: str) -> tuple[int, str]:
    """Status and text; status 0 while nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz/{what}", timeout=20) as one:
            return one.status, one.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)


def test_ready_says_by_which_mesh(far_agent: Agent, far_plane: PlaneProcess) -> None:
    port = free_port()
    flags = ("--probe-address", f"127.0.0.1:{port}")
    far_agent.start(*flags)
    until(lambda: probe(port, "live") == (200, "alive\n"), far_agent.tail)
    assert probe(port, "ready") == (500, "not ready, pending: control plane\n")
    far_plane.write(service("default/web", "10.96.0.1"), pod("web", "10.1.0.1", of="default/web"))
    far_plane.start()
    far_agent.until(lambda state: state["synced"])
    assert probe(port, "ready") == (200, "ready: in sync with the control plane\n")
    far_plane.kill()
    far_agent.until(lambda state: not state["xds"]["connected"])
    status, text = probe(port, "ready")
    assert status == 200 and text.startswith("ready: ")
    far_agent.kill()
    far_agent.start(*flags)
    until(lambda: probe(port, "ready")[0] == 200, far_agent.tail)
    assert probe(port, "ready")[1].startswith("ready: from cache, ")
