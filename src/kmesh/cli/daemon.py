"""``kmesh daemon`` and ``kmesh uninstall``: the agent itself, and the end of it."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

from kmesh import config, logs
from kmesh.cli.console import out, show_error, show_json
from kmesh.errors import ConfigError, KmeshError

if TYPE_CHECKING:
    import argparse


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add both sub-commands."""
    help_ = "the node agent, in the foreground"
    parser = subparsers.add_parser("daemon", help=help_, allow_abbrev=False)
    config.add_options(parser)
    parser = subparsers.add_parser(
        "uninstall", help="detach the programs and remove every pin: the only thing that does"
    )
    parser.add_argument("--bpf-fs-path", default="/sys/fs/bpf", help="default: %(default)s")
    parser.add_argument("--json", action="store_true", help="list what was removed as JSON")


def run(args: argparse.Namespace) -> int:
    """Serve until TERM or INT; 1 when the agent cannot start, 2 when an option is wrong."""
    try:
        found = config.load(vars(args), os.environ)
    except ConfigError as error:
        show_error(error)
        return 2
    from kmesh import app  # the C extension and the network stack: only the agent needs them

    try:
        logs.configure(found.log_level, found.log_format)
        app.serve(found)
    except KmeshError as error:
        log = logging.getLogger(__name__)
        log.debug("start failed", exc_info=True)
        if found.log_format == "json":
            log.critical("%s", error)  # whoever reads JSON reads nothing else
        else:
            show_error(error)
        return 1
    return 0


def uninstall(args: argparse.Namespace) -> int:
    """Remove links and maps; 1 when a daemon still runs on them."""
    from kmesh.bpf import load

    try:
        removed = load.uninstall(args.bpf_fs_path)
    except KmeshError as error:
        show_error(error)
        return 1
    if args.json:
        show_json({"removed": removed})
    else:
        out().print(f"removed {len(removed)} pins" if removed else "nothing was pinned")
    return 0
