"""``kmesh explain``: the page of an error code, or of a reason that the programs give."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kmesh.cli import codes, layout
from kmesh.cli.console import out, show_error, show_json
from kmesh.core import spelt
from kmesh.errors import KmeshError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

EXAMPLES = """\
  kmesh explain KM1105        what the code means, what the agent says, what to do
  kmesh explain no_endpoint   what a reason of a refused connection means
  kmesh explain               every code and every reason in one list
"""


class UnknownCode(KmeshError):
    """There is no such error code and no such reason."""

    code = "KM1704"
    next_step = "Run `kmesh explain` without an argument for the list."


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add the sub-command."""
    parser = layout.command(
        subparsers,
        "explain",
        "what an error code or a reason means, and what to do",
        "Prints the page of an error code such as KM1105, or of a reason such as "
        "no_endpoint; without an argument the list of all. Asks nobody.",
        EXAMPLES,
    )
    parser.add_argument("code", nargs="?", help="KM and four digits, or the name of a reason")
    layout.add_output(parser)


def run(args: argparse.Namespace) -> int:
    """0 explained, 1 there is no such code."""
    if args.code is None:
        _list(args.output)
        return 0
    pages = [page for page in codes.pages() if page.code == args.code.upper()]
    reason = spelt.find(args.code)
    if not pages and reason is None:
        show_error(UnknownCode(f"there is no error code and no reason {args.code!r}"))
        return 1
    if args.output == "json":
        show_json([page._asdict() for page in pages] or _reason(reason))
    else:
        out().out(text(pages) if pages else reason_text(args.code), highlight=False)
    return 0


def text(pages: Sequence[codes.Page]) -> str:
    """The page of one code; further classes that share it follow."""
    blocks = []
    for page in pages:
        lines = [f"{page.code}  {page.name} ({page.module})", "", *_indented(page.meaning)]
        if page.sentences:
            lines += ["", "Said as", *(f"  {each.strip()}" for each in page.sentences)]
        lines += ["", "Next step", *_indented(page.next_step)]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def reason_text(name: str) -> str:
    """The page of one reason."""
    found = _reason(spelt.find(name))
    lines = [found["reason"], "", f"  {found['meaning']}"]
    if found["next_step"]:
        lines += ["", "Next step", f"  {found['next_step']}"]
    return "\n".join(lines)


def _reason(reason: Any) -> dict[str, str]:
    found = spelt.REASONS[reason]
    return {"reason": reason.name.lower(), **found._asdict()}


def _indented(block: str) -> list[str]:
    return [f"  {line}".rstrip() for line in block.splitlines()]


def _list(output: str) -> None:
    pages = [page for page in codes.pages() if page.code]
    if output == "json":
        reasons = [_reason(reason) for reason in spelt.REASONS]
        show_json({"errors": [page._asdict() for page in pages], "reasons": reasons})
        return
    seen: set[str] = set()
    lines = []
    for page in pages:
        if page.code not in seen:
            lines.append(f"{page.code}  {page.summary}")
        seen.add(page.code)
    width = max(len(reason.name) for reason in spelt.REASONS)
    lines += [""] + [
        f"{reason.name.lower():<{width}}  {spelt.REASONS[reason].meaning}"
        for reason in spelt.REASONS
    ]
    out().out("\n".join(lines), highlight=False)
