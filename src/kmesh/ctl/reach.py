"""Which agents there are, and the way to each: an address, a socket, or through Kubernetes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from kmesh.cli.client import PORT, Client
from kmesh.ctl.kube import Kube
from kmesh.errors import KmeshError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Sequence

R = TypeVar("R")
AT_ONCE = 8
NAMESPACE, SELECTOR = "kmesh-system", "app=kmesh"


class NoSuchAgent(KmeshError):
    """No agent with this name, or none at all, was found."""

    code = "KM1711"
    next_step = (
        "List them with `kubectl get pods -n kmesh-system -l app=kmesh`; --daemon-namespace and "
        "--selector look elsewhere, --address and --run-dir ask one agent without Kubernetes."
    )


class Agent(NamedTuple):
    """One agent: the name to show, and how to open a way to it."""

    name: str
    address: str = ""
    run_dir: str = ""


class Reach:
    """The agents that the options lead to."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.kube = kube(args)
        self.direct = bool(args.address or args.run_dir)
        self._addresses: list[str] = args.address
        self._run_dir: str = args.run_dir
        self._namespace: str = args.daemon_namespace
        self._selector: str = args.selector
        self._port: int = args.daemon_port

    def agents(self, names: Sequence[str] = ()) -> list[Agent]:
        """All agents, or those of these names; raises NoSuchAgent or KubectlError."""
        every = self._direct() if self.direct else self._pods()
        if not every:
            raise NoSuchAgent(f"no pod {self._selector} runs in namespace {self._namespace}")
        if not names:
            return every
        known = {agent.name: agent for agent in every}
        for name in names:
            if name not in known:
                raise NoSuchAgent(f"there is no agent {name}; there are: {', '.join(known)}")
        return [known[name] for name in dict.fromkeys(names)]

    def one(self, name: str) -> Agent:
        """The agent of this name; without a name the only one. Raises as ``agents``."""
        found = self.agents([name] if name else ())
        if len(found) > 1:
            names = ", ".join(agent.name for agent in found)
            raise NoSuchAgent(f"there are {len(found)} agents, name one of them: {names}")
        return found[0]

    @contextmanager
    def open(self, agent: Agent) -> Iterator[Client]:
        """A client of an agent until the block ends; raises KubectlError, AddressError."""
        if agent.address:
            yield Client(address=agent.address)
        elif agent.run_dir:
            yield Client(agent.run_dir)
        else:
            with self.kube.forward(self._namespace, agent.name, self._port) as port:
                yield Client(address=f"127.0.0.1:{port}")

    def each(
        self, names: Sequence[str], ask: Callable[[Client], R]
    ) -> list[tuple[Agent, R | KmeshError]]:
        """The answer of every agent, or why there is none, some agents at a time."""

        def visit(agent: Agent) -> R | KmeshError:
            try:
                with self.open(agent) as client:
                    return ask(client)
            except KmeshError as error:
                return error

        agents = self.agents(names)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(zip(agents, pool.map(visit, agents), strict=True))

    def _direct(self) -> list[Agent]:
        if self._run_dir:
            return [Agent(self._run_dir, run_dir=self._run_dir)]
        return [Agent(address, address) for address in self._addresses]

    def _pods(self) -> list[Agent]:
        found = self.kube.get("pods", "-n", self._namespace, "-l", self._selector)
        running = (pod for pod in found["items"] if pod["status"].get("phase") == "Running")
        return sorted(Agent(pod["metadata"]["name"]) for pod in running)


def add_options(parser: argparse.ArgumentParser, *, default: bool) -> None:
    """The options that say where agents are; without ``default`` they leave unset what is not
    given, so that one set stands before the command and one after it."""
    from argparse import SUPPRESS

    def add(flag: str, value: object, metavar: str, text: str, **more: Any) -> None:
        shown = f" (default: {value})" if value else ""
        group.add_argument(
            flag, default=value if default else SUPPRESS, metavar=metavar, help=text + shown, **more
        )

    group = parser.add_argument_group("where the agents are")
    add("--address", [], "HOST:PORT", "ask this agent directly; may be repeated", action="append")
    add("--run-dir", "", "DIR", "ask the agent of this node by its socket, as /run/kmesh")
    add("--kubeconfig", "", "FILE", "kubectl's configuration")
    add("--context", "", "NAME", "kubectl's context")
    add("--kubectl", "kubectl", "PROGRAM", "the program to call")
    add("--daemon-namespace", NAMESPACE, "NAME", "namespace of the agents' pods")
    add("--selector", SELECTOR, "LABELS", "label selector of the agents' pods")
    add("--daemon-port", PORT, "PORT", "admin port of the agents", type=int)


def kube(args: argparse.Namespace) -> Kube:
    """kubectl as the options want it."""
    return Kube(args.kubectl, args.kubeconfig, args.context)
