"""Every verb and flag, from the parsers themselves; and the exit codes."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

from docs.builder import MADE, cell, code
from tendon.cli import DAG_TOOLS, parser
from tendon.errors import EXIT_CODES

HIDDEN = {"import"}  # answered with the new word; in no list
EVERYWHERE = ("-h", "--help", "--debug", "--quiet", "--trust")


@dataclass(frozen=True)
class Flag:
    """An option or an argument of a verb."""

    verb: str
    name: str
    value: str
    default: str
    help: str


def parsers() -> Iterator[tuple[str, argparse.ArgumentParser, str]]:
    """Every verb, its parser and its help; verbs of verbs behind them."""
    yield from _below("tendon", parser())
    from pipelines.compile import command_line
    from pipelines.submit import _parser as submit_parser

    yield "tendon compile", command_line(), DAG_TOOLS["compile"]
    yield "tendon submit", submit_parser(), DAG_TOOLS["submit"]
    yield from _below("tendon submit", submit_parser())


def _below(name: str, root: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser, str]]:
    for action in root._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {one.dest: one.help or "" for one in action._choices_actions}
            for verb, found in action.choices.items():
                if verb in HIDDEN or (name == "tendon" and verb in DAG_TOOLS):
                    continue
                yield f"{name} {verb}", found, helps.get(verb, "")
                yield from _below(f"{name} {verb}", found)


def flags(verb: str, found: argparse.ArgumentParser) -> list[Flag]:
    """What a verb takes, without what every verb takes."""
    made = []
    for action in found._actions:
        if isinstance(action, argparse._SubParsersAction) or action.help == argparse.SUPPRESS:
            continue
        if set(action.option_strings) & set(EVERYWHERE):
            continue
        name = ", ".join(action.option_strings) or str(action.metavar or action.dest)
        value = ""
        if action.option_strings and action.nargs != 0:
            names = action.metavar or (action.dest.upper() if not action.choices else "")
            value = " ".join(names) if isinstance(names, tuple) else names
        if action.choices:
            value = " or ".join(map(str, action.choices))
        default = "" if action.default in (None, "", [], False, argparse.SUPPRESS) else str(action.default)
        needed = action.option_strings and action.required
        help = (action.help or "") % {"prog": found.prog, "default": action.default}
        made.append(Flag(verb, name, value, "required" if needed else default, help))
    return made


def page() -> str:
    """docs/reference/commands.md."""
    lines = ["# Commands", "", MADE, "", "Every verb also takes these:", "", "| flag | what it does |", "|---|---|"]
    common = next(found for verb, found, _ in parsers() if verb == "tendon train")
    for action in common._actions:
        if set(action.option_strings) & set(EVERYWHERE):
            lines.append(f"| {code(', '.join(action.option_strings))} | {cell(action.help)} |")
    lines += ["", "`tendon --version` prints the version. Behind the flags stand overrides of the", ""]
    lines[-2] += " configuration where a verb takes any: `KEY=VALUE`, see [configuration](configuration.md)."
    for verb, found, help in parsers():
        lines += ["", f"## {verb}", "", f"{help[:1].upper()}{help[1:]}.".replace("`.", "`."), ""]
        rows = flags(verb, found)
        if rows:
            lines += ["| flag | value | default | what it does |", "|---|---|---|---|"]
        for row in rows:
            lines.append(f"| {code(row.name)} | {code(row.value)} | {cell(row.default)} | {cell(row.help)} |")
    return "\n".join(lines) + "\n"


def exit_codes_page() -> str:
    """docs/reference/exit-codes.md."""
    lines = [
        "# Exit codes",
        "",
        MADE,
        "",
        "Every error is four lines (error, where, why, fix) on standard error and one of these:",
    ]
    lines += ["", "| code | meaning |", "|---|---|"]
    lines += [f"| {number} | {cell(meaning)} |" for number, meaning in EXIT_CODES.items()]
    lines += [
        "",
        "A step of the pipeline leaves with the same codes; what Kubeflow makes of them, and which are tried again, is",
    ]
    lines += [
        "told in `k8s/README.md`. `tendon submit` leaves with 1 where the run failed or was stopped, and with 75 while it"
    ]
    lines += ["still runs."]
    return "\n".join(lines) + "\n"
