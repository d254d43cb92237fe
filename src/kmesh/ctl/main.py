"""The ``kmeshctl`` command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kmesh import __version__
from kmesh.cli import complete
from kmesh.cli.console import show_error
from kmesh.ctl import daemons, reach, secret, switches, waypoint
from kmesh.ctl.help import command, parser
from kmesh.errors import ConfigError, KmeshError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

EXAMPLES = """\
  kmeshctl version
  kmeshctl dump kmesh-x7k2p dual-engine
  kmeshctl authz status
  kmeshctl --address 127.0.0.1:15200 monitoring --all enable
  source <(kmeshctl completion bash)

Exit codes: 0 success, 1 failure, 2 wrong usage. `kmesh explain CODE` explains an error."""
DESCRIPTION = (
    "Looks at and controls the mesh's node agents: those of a Kubernetes cluster through kubectl's "
    "port-forward, or single ones with --address or --run-dir. No cluster is needed for help, "
    "completion, `waypoint generate`, and whatever is asked with --address."
)


def build() -> argparse.ArgumentParser:
    """The whole tree of commands."""
    made = parser("kmeshctl", DESCRIPTION, EXAMPLES)
    made.add_argument("--version", action="version", version=f"kmeshctl {__version__}")
    reach.add_options(made, default=True)
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in (daemons, switches, waypoint, secret):
        module.add_parsers(commands)
    shells = command(
        commands, "completion", "script that completes words in a shell",
        "Prints a script for a shell; commands, flags and their values are completed.",
        "  source <(kmeshctl completion bash)\n"
        "  kmeshctl completion zsh > ~/.zfunc/_kmeshctl\n"
        "  kmeshctl completion fish > ~/.config/fish/completions/kmeshctl.fish",
        complete.run_for("kmeshctl"), agents=False,
    )  # fmt: skip
    shells.add_argument(
        "shell", choices=complete.SHELLS, metavar="SHELL", help=", ".join(complete.SHELLS)
    )
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    made = build()
    if (words := complete.asked(argv)) is not None:
        return complete.answer(made, words)
    args = made.parse_args(argv)
    try:
        code: int = args.run(args)
    except ConfigError as error:
        show_error(error)
        return 2
    except KmeshError as error:
        show_error(error)
        return 1
    return code
