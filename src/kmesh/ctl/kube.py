"""Kubernetes by way of ``kubectl``: the user's own configuration, credentials and plugins."""

from __future__ import annotations

import re
import selectors
import shutil
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from kmesh.errors import KmeshError

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUT = 30.0  # seconds for one call
FORWARDED = re.compile(rb"Forwarding from 127\.0\.0\.1:(\d+) ->")
LOGGED = re.compile(r"[EWI]\d{4} \d\d:")
STOP_WITHIN = 5.0


class KubectlError(KmeshError):
    """kubectl is missing, or what it was asked for failed."""

    code = "KM1710"
    next_step = "Try the same with kubectl itself; --kubeconfig, --context and --kubectl choose it."


class Kube(NamedTuple):
    """How to call kubectl; empty strings leave the choice to it."""

    program: str = "kubectl"
    kubeconfig: str = ""
    context: str = ""

    def call(self, *words: str, data: bytes | None = None) -> bytes:
        """Its standard output; raises KubectlError with what it said."""
        try:
            done = subprocess.run(
                self.command(*words), input=data, capture_output=True, timeout=TIMEOUT, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise KubectlError(f"kubectl {words[0]}: no answer within {TIMEOUT:.0f} s") from error
        except OSError as error:
            raise self._missing(error) from error
        if done.returncode:
            raise KubectlError(f"kubectl {words[0]}: {complaint(done.stderr, done.returncode)}")
        return done.stdout

    def get(self, *words: str) -> Any:
        """``kubectl get`` as a document; raises KubectlError."""
        output = self.call("get", *words, "-o", "json")
        try:
            return orjson.loads(output)
        except orjson.JSONDecodeError as error:
            raise KubectlError(f"kubectl get {words[0]}: the answer is no JSON") from error

    def command(self, *words: str) -> list[str]:
        """The command line."""
        found = [self.program]
        if self.kubeconfig:
            found += ["--kubeconfig", self.kubeconfig]
        if self.context:
            found += ["--context", self.context]
        return [*found, *words]

    @contextmanager
    def forward(self, namespace: str, pod: str, port: int) -> Iterator[int]:
        """A local port that leads to a pod's until the block ends; raises KubectlError."""
        words = ("port-forward", "-n", namespace, f"pod/{pod}", f":{port}", "--address=127.0.0.1")
        try:
            process = subprocess.Popen(
                self.command(*words), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )  # fmt: skip
        except OSError as error:
            raise self._missing(error) from error
        with process:
            try:
                yield forwarded(process, pod)
            finally:
                process.terminate()
                try:
                    process.wait(STOP_WITHIN)
                except subprocess.TimeoutExpired:
                    process.kill()

    def _missing(self, error: OSError) -> KubectlError:
        if shutil.which(self.program) is None:
            return KubectlError(
                f"there is no program {self.program}",
                "Install kubectl, or reach the agent directly with --address HOST:PORT.",
            )
        return KubectlError(f"{self.program}: {error.strerror}")


def complaint(stderr: bytes, status: int) -> str:
    """What kubectl has to say, without the log lines of its library."""
    lines = stderr.decode(errors="replace").splitlines()
    return "\n".join(line for line in lines if not LOGGED.match(line)) or f"status {status}"


def forwarded(process: subprocess.Popen[bytes], pod: str) -> int:
    """The local port that a port-forward announces; raises KubectlError when it ends instead."""
    assert process.stdout is not None
    assert process.stderr is not None
    deadline, seen = time.monotonic() + TIMEOUT, b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0:
            if not selector.select(left):
                break
            more = process.stdout.read1(4096)  # type: ignore[attr-defined]
            seen += more
            if found := FORWARDED.search(seen):
                return int(found[1])
            if not more:
                said = complaint(process.stderr.read(), process.wait(STOP_WITHIN))
                raise KubectlError(f"port-forward to {pod}: {said}")
    raise KubectlError(f"port-forward to {pod}: not ready within {TIMEOUT:.0f} s")
