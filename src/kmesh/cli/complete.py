"""Shell completion from the argument parser itself: a thin script asks the program for words."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from kmesh.cli.console import out
from kmesh.cli.layout import command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

SHELLS = ("bash", "zsh", "fish")
ASK = "__complete"
BASH = """\
# completion of {prog} for bash; use: source <({prog} completion bash)
_{name}_complete() {{
    local IFS=$'\\n'
    COMPREPLY=($({prog} {ask} "${{COMP_WORDS[@]:1:COMP_CWORD}}" 2>/dev/null))
    [[ ${{#COMPREPLY[@]}} -eq 0 ]] && compopt -o default
    return 0
}}
complete -F _{name}_complete {prog}
"""
ZSH = """\
#compdef {prog}
# completion of {prog} for zsh; put it on the fpath as _{prog}
_{name}_complete() {{
    local -a found
    found=(${{(f)"$({prog} {ask} "${{(@)words[2,CURRENT]}}" 2>/dev/null)"}})
    if (( $#found )); then compadd -a found; else _files; fi
}}
if [[ $funcstack[1] == _{prog} ]]; then
    _{name}_complete "$@"
else
    compdef _{name}_complete {prog}
fi
"""
FISH = """\
# completion of {prog} for fish; put it into ~/.config/fish/completions/{prog}.fish
function __{name}_complete
    set -l words (commandline -opc) (commandline -ct)
    {prog} {ask} $words[2..-1] 2>/dev/null
end
complete -c {prog} -a '(__{name}_complete)'
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


def script(prog: str, shell: str) -> str:
    """The script for one of SHELLS."""
    return SCRIPTS[shell].format(prog=prog, name=prog.replace("-", "_"), ask=ASK)


def add_parser(commands: argparse._SubParsersAction[Any], prog: str) -> None:
    """``completion SHELL`` for a command with sub-commands."""
    parser = command(
        commands, "completion", "script that completes words in a shell",
        "Prints a script for a shell; commands, flags and their values are completed.",
        f"  source <({prog} completion bash)\n"
        f"  {prog} completion zsh > ~/.zfunc/_{prog}\n"
        f"  {prog} completion fish > ~/.config/fish/completions/{prog}.fish",
    )  # fmt: skip
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help=", ".join(SHELLS))


def run_for(prog: str) -> Callable[[argparse.Namespace], int]:
    """What ``completion SHELL`` does."""

    def run(args: argparse.Namespace) -> int:
        out().out(script(prog, args.shell), end="", highlight=False)
        return 0

    return run


def asked(argv: Sequence[str] | None) -> list[str] | None:
    """The words so far when a script asks for completion, the last one unfinished; else None."""
    words = list(sys.argv[1:] if argv is None else argv)
    return words[1:] if words[:1] == [ASK] else None


def answer(parser: argparse.ArgumentParser, words: Sequence[str]) -> int:
    """Print what the last word may become, one a line."""
    found = candidates(parser, words)
    if found:
        out().out("\n".join(found), highlight=False)
    return 0


def candidates(parser: argparse.ArgumentParser, words: Sequence[str]) -> list[str]:
    """What the last word may become: commands, flags, or the values that a flag allows."""
    *before, last = words or [""]
    level, value_of, taken = _walk(parser, before)
    if value_of is not None:
        return _starting(last, map(str, value_of.choices or ()))
    if last.startswith("--") and "=" in last:
        flag, _, start = last.partition("=")
        action = level._option_string_actions.get(flag)
        choices = map(str, action.choices or ()) if action else ()
        return [f"{flag}={each}" for each in _starting(start, choices)]
    if last.startswith("-"):
        flags = (flag for flag, action in level._option_string_actions.items() if shown(action))
        return _starting(last, flags)
    return _starting(last, _positional(level, taken))


def _walk(
    parser: argparse.ArgumentParser, words: Sequence[str]
) -> tuple[argparse.ArgumentParser, argparse.Action | None, int]:
    """The sub-command that the words lead to, the flag that wants a value next, and how many
    positional words there were."""
    value_of: argparse.Action | None = None
    taken = 0
    for word in words:
        if value_of is not None:
            value_of = None
        elif word.startswith("-"):
            action = parser._option_string_actions.get(word)
            value_of = action if action is not None and action.nargs != 0 else None
        elif (commands := _commands(parser)) is not None and word in commands:
            parser, taken = commands[word], 0
        else:
            taken += 1
    return parser, value_of, taken


def _commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser] | None:
    found = (each for each in parser._actions if isinstance(each, argparse._SubParsersAction))
    return next((dict(each.choices) for each in found), None)


def _positional(parser: argparse.ArgumentParser, taken: int) -> Iterator[str]:
    """The choices of the positional arguments that may come next: optional ones may be left out."""
    places = [each for each in parser._actions if not each.option_strings]
    for action in places[taken:] or places[-1:]:
        if action.choices is not None:
            yield from map(str, action.choices)
        if action.nargs not in ("?", "*"):
            return


def shown(action: argparse.Action) -> bool:
    """Whether help shows an argument."""
    return action.help != argparse.SUPPRESS


def _starting(start: str, words: Iterable[str]) -> list[str]:
    return sorted({word for word in words if word.startswith(start)})
