"""The help page of a command, laid out by argparse, which no other use of a command has to load."""

import argparse
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tidewaiter.cli.parameters import Described


class _Formatter(argparse.HelpFormatter):
    """argparse's, with the paragraphs of a description kept apart and no word broken at its hyphen."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(text, width, break_on_hyphens=False)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        options: dict[str, Any] = {"initial_indent": indent, "subsequent_indent": indent, "break_on_hyphens": False}
        return "\n\n".join(textwrap.fill(part, width, **options) for part in text.split("\n\n"))


def _escaped(text: str) -> str:
    return text.replace("%", "%%")


def page(
    call: str,
    usage: Sequence[str],
    description: str,
    arguments: "Sequence[Described]",
    options: "Sequence[Described]",
) -> str:
    """The help page of the command that is called `call`; `usage` shows its arguments in one line."""
    parser = argparse.ArgumentParser(prog=call, add_help=False, formatter_class=_Formatter)
    required = [f"{one.label} {one.kind.metavar}" for one in options if one.required]
    parser.usage = _escaped(" ".join((call, *required, "[OPTIONS]", *usage)))
    parser.description = _escaped(description)
    if arguments:
        group = parser.add_argument_group("arguments")
        for one in arguments:
            group.add_argument(one.name, metavar=one.label, help=_escaped(one.full_help))
    add = parser.add_argument_group("options").add_argument
    for one in options:
        text = _escaped(one.full_help)
        if one.kind.convert is bool:
            add(*one.options, dest=one.name, action="store_true", help=text)
            if one.negative:
                add(one.negative, dest=one.name, action="store_false", help="the opposite")
        else:
            add(*one.options, dest=one.name, metavar=one.kind.metavar, help=text)
    add("-h", "--help", action="store_true", help="print this and exit")
    return parser.format_help()
