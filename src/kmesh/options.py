"""What an option is, and how options are read from flags and the environment."""

from __future__ import annotations

import argparse
from dataclasses import field
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from kmesh.core import values
from kmesh.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

# Of the upstream agent; a flag that is silently ignored would be a promise.
UNAVAILABLE = (
    "--enable-ipsec",
    "--enable-secret-manager",
    "--enable-bypass",
    "--enable-mda",
    "--periodic-report",
    "--cni-etc-path",
    "--conflist-name",
    "--plugin-cni-chained",
)


class Option(NamedTuple):
    """One row. ``env`` names are tried in order; one that ends in ``*`` collects (rest, value).

    An empty variable counts as not set unless ``empty`` is a value of its own. ``default`` is text
    or made from the environment, then ``shown`` describes it.
    """

    parse: Callable[[str], object]
    default: str | Callable[[Mapping[str, str]], str]
    group: str
    help: str
    flag: str = ""
    env: tuple[str, ...] = ()
    empty: bool = False
    shown: str = ""
    parse_name: Callable[[str], str] = values.text
    bare: str = ""  # the value of a flag that is given without one

    @property
    def collects(self) -> bool:
        """Whether it takes all variables with a prefix."""
        return any(name.endswith("*") for name in self.env)

    def describe(self) -> str:
        """Help with the environment's names and the default."""
        default = self.shown or (self.default if isinstance(self.default, str) else "")
        notes = [", ".join(self.env)] if self.env and self.flag else []
        if not self.collects:
            notes.append(f"default: {default or 'empty'}")
        return f"{self.help} [{'; '.join(notes)}]" if notes else self.help


def row(
    group: str,
    flag: str,
    env: str,
    parse: Callable[[str], object],
    default: str | Callable[[Mapping[str, str]], str],
    text: str,
    **more: Any,
) -> Any:
    option = Option(parse, default, group, text, flag, tuple(env.split()), **more)
    return field(metadata={"option": option})


class Parser(argparse.ArgumentParser):
    """Reports what it cannot parse as ConfigError, and guesses no abbreviations."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})

    def error(self, message: str) -> NoReturn:
        raise ConfigError(message)


class _Unavailable(argparse.Action):
    def __call__(self, _: object, __: object, ___: object, flag: str | None = None) -> None:
        raise ConfigError(f"{flag} is not available in this build", "Leave it out.")


def add(parser: argparse.ArgumentParser, options: Iterable[tuple[str, Option]]) -> None:
    """Add every option to a parser; the variables without a flag go to its epilog."""
    groups: dict[str, Any] = {}
    only_environment = ["environment only:"]
    for name, option in options:
        if not option.flag:
            only_environment.append(f"  {', '.join(option.env):<18} {option.describe()}")
            continue
        group = groups.get(option.group) or parser.add_argument_group(option.group.lower())
        groups[option.group] = group
        text = option.describe().replace("%", "%%")
        metavar = option.flag.rpartition("-")[2].upper()
        more: dict[str, Any] = {"nargs": "?", "const": option.bare} if option.bare else {}
        group.add_argument(option.flag, dest=name, metavar=metavar, help=text, **more)
    for flag in UNAVAILABLE:
        hidden = argparse.SUPPRESS
        parser.add_argument(flag, nargs="?", action=_Unavailable, dest=hidden, help=hidden)
    parser.epilog = "\n".join(only_environment)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter


def read(option: Option, flag: str | None, environ: Mapping[str, str]) -> Any:
    """The value of one option; ``flag`` is None when it was not given.

    Raises ConfigError naming the flag or the variable and what is allowed.
    """
    if flag is not None:
        return _parsed(option.flag, option.parse, flag)
    if option.collects:
        return _collected(option, environ)
    for variable in option.env:
        raw = environ.get(variable)
        if raw or (raw is not None and option.empty):
            return _parsed(variable, option.parse, raw)
    default = option.default
    return option.parse(default if isinstance(default, str) else default(environ))


def _collected(option: Option, environ: Mapping[str, str]) -> tuple[tuple[str, object], ...]:
    prefix = option.env[0].removesuffix("*")
    names = sorted(name for name in environ if name.startswith(prefix) and name != prefix)
    return tuple(
        (
            _parsed(name, option.parse_name, name.removeprefix(prefix), quote=False),
            _parsed(name, option.parse, environ[name], quote=False),
        )
        for name in names
    )


def _parsed(name: str, parse: Callable[[str], Any], raw: str, *, quote: bool = True) -> Any:
    try:
        return parse(raw)
    except ValueError as error:
        # What is collected from the environment may be a secret.
        given = f" {raw!r:.60}" if quote else ""
        raise ConfigError(f"{name}{given}: {error}") from error
