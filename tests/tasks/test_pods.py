"""The enrolment socket: a real Unix socket, real namespaces, and bad requests."""

from __future__ import annotations

import os
import stat
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import anyio
import pytest

from kmesh.bpf.fake import FakeKernel
from kmesh.core.pods import UID_ROOM
from kmesh.core.segments import Segments
from kmesh.core.steer import Steering
from kmesh.core.store import Store
from kmesh.tasks.pods import LIMITS, EnrolmentError, PodServer
from kmesh.tasks.problems import BadRequest
from kmesh.tasks.writer import Writer
from tests.kernel.net import namespace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.anyio


class Rig:
    """A served socket and a client."""

    def __init__(self, path: Path, writer: Writer, client: aiohttp.ClientSession) -> None:
        self.path, self.writer, self.client = path, writer, client

    async def ask(self, method: str, path: str = "/enrol", **body: Any) -> tuple[int, Any]:
        """Status and JSON answer."""
        async with self.client.request(method, f"http://kmesh{path}", **body) as answer:
            return answer.status, await answer.json()

    async def problem(self, method: str = "POST", **body: Any) -> str:
        """The sentence of a refusal."""
        status, answer = await self.ask(method, **body)
        assert status == 400, answer
        assert set(answer) == {"code", "error", "next_step"}
        assert answer["code"] in (EnrolmentError.code, BadRequest.code)
        return str(answer["error"])


@asynccontextmanager
async def served(tmp_path: Path) -> AsyncIterator[Rig]:
    path = tmp_path / "run" / "kmesh.sock"
    tables = FakeKernel(64, 64)
    writer = Writer(tables, Steering(Store(), Segments(64), 64), lambda _: None)
    server = PodServer(path, writer, lambda: {"layer": "kernel", "n": 1})
    async with anyio.create_task_group() as tasks:
        await tasks.start(server.run)
        connector = aiohttp.UnixConnector(str(path))
        async with aiohttp.ClientSession(connector=connector) as client:
            yield Rig(path, writer, client)
        tasks.cancel_scope.cancel()


async def test_the_socket_is_for_its_owner_only(tmp_path: Path) -> None:
    async with served(tmp_path) as rig:
        mode = rig.path.stat().st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o600
        assert stat.S_IMODE(rig.path.parent.stat().st_mode) == 0o700


async def test_a_socket_left_by_a_killed_daemon_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "kmesh.sock").touch()
    async with served(tmp_path) as rig:
        assert await rig.ask("GET", "/state") == (200, {"layer": "kernel", "n": 1})


async def test_a_namespace_is_enrolled_by_its_cookie_listed_and_withdrawn(tmp_path: Path) -> None:
    with namespace() as pod:
        async with served(tmp_path) as rig:
            body = {"netns": pod.path, "workload": "default/a"}
            assert await rig.ask("POST", json=body) == (
                200, {"cookie": pod.cookie, "workload": "default/a"},
            )  # fmt: skip
            assert rig.writer.steering.pods.wanted == {pod.cookie: "default/a"}
            listed = {
                "cookie": pod.cookie, "workload": "default/a", "enrolled": False, "view": None,
            }  # fmt: skip
            assert await rig.ask("GET") == (200, [listed])
            assert await rig.ask("DELETE", json={"netns": pod.path}) == (
                200, {"cookie": pod.cookie},
            )  # fmt: skip
            assert await rig.ask("GET") == (200, [])


async def test_a_namespace_that_is_gone_is_withdrawn_by_the_path_it_had(tmp_path: Path) -> None:
    async with served(tmp_path) as rig:
        with namespace() as pod:
            await rig.ask("POST", json={"netns": pod.path, "workload": "default/a"})
        assert await rig.ask("DELETE", json={"netns": pod.path}) == (200, {"cookie": pod.cookie})
        assert "No such file" in await rig.problem("DELETE", json={"netns": pod.path})


async def test_a_path_that_was_used_again_is_the_new_namespace(tmp_path: Path) -> None:
    link = tmp_path / "netns"
    async with served(tmp_path) as rig:
        with namespace() as old, namespace() as new:
            link.symlink_to(old.path)
            await rig.ask("POST", json={"netns": str(link), "workload": "default/a"})
            link.unlink()
            link.symlink_to(new.path)
            _, answer = await rig.ask("DELETE", json={"netns": str(link)})
            assert answer == {"cookie": new.cookie}


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "the body is not JSON"),
        (b"{", "the body is not JSON"),
        (b'{"netns": "\xff"}', "the body is not JSON"),
        (b"[]", "the body is not a JSON object"),
        (b'"netns"', "the body is not a JSON object"),
        (b"{}", "'netns' must be"),
        (b'{"netns": "/x"}', "'workload' must be"),
        (b'{"netns": "", "workload": "u"}', "'netns' must be"),
        (b'{"netns": 7, "workload": "u"}', "'netns' must be"),
        (b'{"netns": "/x", "workload": null}', "'workload' must be"),
        (b'{"netns": "/x\\u0000", "workload": "u"}', "'netns' must be"),
        (b'{"netns": "/x", "workload": "u\\u0000"}', "'workload' must be"),
    ],
)
async def test_bad_bodies_are_named(tmp_path: Path, body: bytes, sentence: str) -> None:
    async with served(tmp_path) as rig:
        assert sentence in await rig.problem(data=body)
        assert rig.writer.steering.pods.wanted == {}


async def test_a_uid_must_fit_into_its_row(tmp_path: Path) -> None:
    with namespace() as pod:
        async with served(tmp_path) as rig:
            body = {"netns": pod.path, "workload": "ü" * (UID_ROOM // 2)}
            assert "longer than 511 bytes" in await rig.problem(json=body)
            body["workload"] = "ü" * (UID_ROOM // 2 - 1)
            assert (await rig.ask("POST", json=body))[0] == 200


async def test_a_body_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    async with served(tmp_path) as rig:
        data = b'{"netns": "' + b"x" * LIMITS.body + b'"}'
        async with rig.client.post("http://kmesh/enrol", data=data) as answer:
            assert answer.status == 413
        assert (await rig.ask("GET"))[0] == 200


async def test_paths_that_are_no_namespace_are_named(tmp_path: Path) -> None:
    plain, pipe = tmp_path / "plain", tmp_path / "pipe"
    plain.touch()
    os.mkfifo(pipe)
    async with served(tmp_path) as rig:
        with anyio.fail_after(20):
            for path in (plain, pipe, tmp_path):
                body = {"netns": str(path), "workload": "u"}
                assert await rig.problem(json=body) == f"{path} is not a network namespace"
            missing = {"netns": str(tmp_path / "none"), "workload": "u"}
            assert "none: No such file" in await rig.problem(json=missing)
        assert rig.writer.steering.pods.wanted == {}


async def test_other_paths_and_methods_are_refused(tmp_path: Path) -> None:
    async with served(tmp_path) as rig:
        for method, path, status in (("GET", "/nothing", 404), ("PUT", "/enrol", 405)):
            async with rig.client.request(method, f"http://kmesh{path}") as answer:
                assert answer.status == status
