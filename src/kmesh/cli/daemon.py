"""``kmesh daemon``: the agent itself."""

from __future__ import annotations

import gc
import logging
import os
from typing import TYPE_CHECKING, Any

from kmesh import config, logs
from kmesh.cli.console import show_error
from kmesh.errors import ConfigError, KmeshError

if TYPE_CHECKING:
    import argparse


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add the sub-command."""
    help_ = "the node agent, in the foreground"
    parser = subparsers.add_parser("daemon", help=help_, allow_abbrev=False)
    config.add_options(parser)


def run(args: argparse.Namespace) -> int:
    """Serve until TERM or INT; 1 when the agent cannot start, 2 when an option is wrong."""
    try:
        found = config.load(vars(args), os.environ)
    except ConfigError as error:
        show_error(error)
        return 2
    gc.disable()  # a tenth of the imports' time; the agent enables it when it is in sync
    from kmesh.serve import (
        serve,  # the C extension and the network stack: only the agent needs them
    )

    try:
        logs.configure(found.log_level, found.log_format)
        serve(found)
    except KmeshError as error:
        log = logging.getLogger(__name__)
        log.debug("start failed", exc_info=True)
        if found.log_format == "json":
            log.critical("%s", error)  # whoever reads JSON reads nothing else
        else:
            show_error(error)
        return 1
    finally:
        gc.enable()
    return 0
