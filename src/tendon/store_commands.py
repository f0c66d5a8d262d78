"""The verbs about what lies in a store: list, show, remove, clean, look at. Called by cli.main as those of commands.py are."""

from __future__ import annotations

import shlex
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from tendon.answers import finish, tell
from tendon.errors import ConfigError, MissingDependency, nearest
from tendon.registry.catalogue import (
    KINDS,
    ChampionRow,
    DatasetRow,
    Row,
    RunRow,
    TrialRow,
    rows_of,
)
from tendon.registry.names import STORE, find, known_stores
from tendon.storage import open_store
from tendon.storage.json_values import read_note

if TYPE_CHECKING:
    from tendon.registry.removal import Removal

SHOWN = 12  # of what a plan lists


# ------------------------------------------------------------------------------------------------------- ls and show


def ls(arguments: Namespace) -> int:
    """What there is, the newest first."""
    stores = known_stores(arguments.store_uri or "")
    rows = [row for uri in stores for row in rows_of(arguments.kind, uri)]
    rows.sort(key=lambda row: -row.at)
    shown = rows[: arguments.last] if arguments.last else rows
    values = [_values(row) for row in shown]
    if arguments.names:
        return tell(arguments, "\n".join(row.name for row in shown), names=[row.name for row in shown])
    if not rows:
        where = ", ".join(stores) or f"no store: name one with --store-uri, or in {STORE}"
        return tell(arguments, f"no {arguments.kind} in {where}", kind=arguments.kind, stores=stores, rows=[])
    lines = _table([COLUMNS[arguments.kind], *([str(cell) for cell in _cells(row)] for row in shown)])
    if len(shown) < len(rows):
        lines += f"\n{len(rows) - len(shown)} older ones are not shown"
    return tell(arguments, lines, kind=arguments.kind, stores=stores, rows=values)


COLUMNS = {
    "runs": ["name", "when", "task", "success", "trials", "verdict"],
    "trials": ["name", "when", "state", "step", "loss", "run"],
    "datasets": ["name", "when", "episodes", "steps", "MB", "source"],
    "champions": ["name", "since", "success", "policy", "run"],
}


def _cells(row: Row) -> list[str]:
    when = row.when[:16].replace("T", " ")
    if isinstance(row, RunRow):
        return [row.name, when, row.task, _rate(row), str(row.num_trials), row.verdict[:60]]
    if isinstance(row, TrialRow):
        loss = f"{row.loss:.4g}" if row.loss is not None else ""
        return [row.name, when, row.state, f"{row.step:,}", loss, row.run_id[:6]]
    if isinstance(row, DatasetRow):
        return [row.name, when, f"{row.episodes:,}", f"{row.steps:,}", f"{row.bytes / 1e6:,.1f}", row.source]
    if isinstance(row, ChampionRow):
        return [row.name, when, _rate(row), row.policy_digest, row.run_uri.rpartition("/")[2]]
    return [row.name, when]


def _rate(row: RunRow | ChampionRow) -> str:
    return f"{row.rate:.2f} ({row.successes}/{row.n})" if row.rate is not None else ""


def _values(row: Row) -> dict[str, Any]:
    """For JSON: the fields that say something of a row, and what is computed of them."""
    values = {each.name: getattr(row, each.name) for each in fields(row) if each.name not in ("record", "at")}
    values |= {"when": row.when}
    return values | ({"rate": row.rate} if isinstance(row, (RunRow, ChampionRow)) else {})


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return "\n".join("  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def wanted_row(text: str, store_uri: str = "", kinds: Sequence[str] = KINDS) -> Row:
    """The row of a name or of an address in a store.

    Raises:
        ConfigError: nothing is there, or the name could be several things.
    """
    plain = text.rstrip("/")
    for kind in kinds:
        store, slash, tail = plain.rpartition(f"/{kind}/")
        if slash:
            row = next((row for row in rows_of(kind, store) if row.uri == plain or row.uri == f"{plain}.json"), None)
            row = row or find(text, (kind,))
            if row is not None:
                return row
            raise _nothing(text, tail, rows_of(kind, store), store)
    row = find(text, kinds, store_uri)
    if row is not None:
        return row
    stores = known_stores(store_uri)
    raise _nothing(
        text, text, [row for uri in stores for kind in kinds for row in rows_of(kind, uri)], ", ".join(stores)
    )


def _nothing(text: str, name: str, rows: Sequence[Row], where: str) -> ConfigError:
    close = nearest(name, [row.name for row in rows], 0.4)
    return ConfigError(
        f"nothing is called {text}",
        where=where or "no store",
        why=f"it has {len(rows)} things of that kind" if where else f"no store is named, and {STORE} is not set",
        fix=f"did you mean {close}?" if close else "tendon ls lists the names; --store-uri says where to look",
    )


def show(arguments: Namespace) -> int:
    """Everything that is known of one run, trial, dataset or champion."""
    row = wanted_row(arguments.what, arguments.store_uri or "")
    values = _values(row)
    rows: dict[str, object] = dict(_told(row))
    more = dict(_more(row))
    return finish(arguments, f"{_kind(row)} {row.name}", rows, _following(row), **{"row": values}, **more)


def _kind(row: Row) -> str:
    return type(row).__name__.removesuffix("Row").lower()


def _told(row: Row) -> Iterator[tuple[str, object]]:
    yield "address", row.uri
    yield "when", row.when.replace("T", " ").replace("Z", " UTC")
    if isinstance(row, RunRow):
        yield from (("verdict", row.verdict), ("success", _rate(row)), ("winner", row.winner or "none"))
        yield from (("task", row.task), ("policy", ", ".join(row.policies)), ("dataset", row.dataset_uri))
        for name, key in (("source", "source_uri"), ("code", "code_version"), ("seeds", "seeds")):
            yield name, row.record.get(key, "")
    elif isinstance(row, TrialRow):
        yield from (("state", row.state), ("step", f"{row.step:,} of {row.num_steps:,}"), ("policy", row.policy))
        yield from (("env", row.env), ("loss", row.loss), ("run", row.run_id))
    elif isinstance(row, DatasetRow):
        yield from (
            ("episodes", f"{row.episodes:,}"),
            ("steps", f"{row.steps:,}"),
            ("size", f"{row.bytes / 1e6:,.1f} MB"),
        )
        yield "source", row.source
    elif isinstance(row, ChampionRow):
        yield from (("success", _rate(row)), ("policy", row.policy_digest), ("bundle", row.bundle_uri))
        yield from (("run", row.run_uri), ("predecessors", len(row.history)))


def _more(row: Row) -> Iterator[tuple[str, object]]:
    """What only the document holds."""
    if isinstance(row, RunRow):
        store = open_store(row.uri)
        yield from (("leaderboard", read_note(store, "selection.json").get("leaderboard", [])), ("record", row.record))
    if isinstance(row, ChampionRow):
        yield "history", row.history


def _following(row: Row) -> str:
    quoted = shlex.quote(row.uri)
    if isinstance(row, ChampionRow):
        return f"tendon show {shlex.quote(row.run_uri)}"
    return f"tendon view {quoted}"


# --------------------------------------------------------------------------------------------------------- rm and gc


def rm(arguments: Namespace) -> int:
    """Say what would go and who needs it; with --yes delete it."""
    from tendon.registry.removal import plan_removals, remove

    rows = [wanted_row(text, arguments.store_uri or "") for text in dict.fromkeys(arguments.what)]
    removals = plan_removals(list({row.uri: row for row in rows}.values()))
    protected = [removal for removal in removals if removal.champions]
    if protected and not arguments.force:
        first = protected[0]
        raise ConfigError(
            f"{first.row.name} stays: a champion rests on it",
            where=first.row.uri,
            why=f"champion {', '.join(first.champions)}; without it later runs could not be compared with the champion",
            fix="promote another policy first, or say --force",
        )
    if arguments.yes:
        remove(removals)
    values = {"removals": [_removal(one) for one in removals], "deleted": bool(arguments.yes)}
    objects, size = sum(len(one.objects) for one in removals), sum(one.bytes for one in removals)
    tell(arguments, "\n".join(line for one in removals for line in _removal_lines(one)))
    following = "" if arguments.yes else shlex.join(["tendon", "rm", "--yes", *arguments.what])
    if not arguments.yes and arguments.store_uri:
        following += f" --store-uri {shlex.quote(arguments.store_uri)}"
    if not arguments.yes and arguments.force:
        following += " --force"
    title = "deleted" if arguments.yes else "would be deleted; nothing was"
    return finish(arguments, title, {"objects": objects, "bytes": size}, following, **values)


def _removal(one: Removal) -> dict[str, Any]:
    keys = [info.key for info in one.objects]
    return {"name": one.row.name, "kind": one.kind, "uri": one.row.uri, "objects": len(keys), "bytes": one.bytes,
            "keys": keys, "used_by": one.used_by, "champions": one.champions}  # fmt: skip


def _removal_lines(one: Removal) -> Iterator[str]:
    yield f"{one.kind.removesuffix('s')} {one.row.name}: {len(one.objects)} objects, {one.bytes / 1e6:,.1f} MB, {one.row.uri}"
    yield from (f"  {info.size:>12}  {info.key}" for info in one.objects[:SHOWN])
    if len(one.objects) > SHOWN:
        yield f"  {'':>12}  and {len(one.objects) - SHOWN} more"
    if one.used_by:
        yield f"  used by {', '.join(one.used_by[:SHOWN])}: these stay, and would make it again"
    if one.champions:
        yield f"  champion {', '.join(one.champions)} rests on it"


def gc(arguments: Namespace) -> int:
    """List or delete what no manifest names."""
    from tendon.data.gc import collect_garbage, find_garbage, find_leftovers, sweep_leftovers

    if arguments.dataset_uri:
        option, uri, search, delete = "dataset", arguments.dataset_uri, find_garbage, collect_garbage
    else:
        option, uri, search, delete = "store", arguments.store_uri, find_leftovers, sweep_leftovers
    garbage = (delete if arguments.yes else search)(uri)
    if garbage.objects:
        tell(arguments, "\n".join(f"{info.size:>12}  {info.key}" for info in garbage.objects))
    rows = {"objects": len(garbage.objects), "bytes": garbage.bytes}
    done = arguments.yes or not garbage.objects
    following = "" if done else f"tendon gc --yes --{option}-uri {shlex.quote(uri)}"
    keys = [info.key for info in garbage.objects]
    return finish(
        arguments, "deleted" if arguments.yes else "not needed", rows, following, keys=keys, deleted=bool(arguments.yes)
    )


# --------------------------------------------------------------------------------------------- completion, and pictures


def completion(arguments: Namespace) -> int:
    """The lines that a shell reads to complete verbs, options and names."""
    try:
        import argcomplete
    except ImportError:
        raise MissingDependency(
            "shell completion needs argcomplete",
            where=f"tendon completion {arguments.shell}",
            why="it is not installed in this environment",
            fix="pip install argcomplete",
        ) from None
    script = argcomplete.shellcode(["tendon"], shell=arguments.shell)  # type: ignore[attr-defined, no-untyped-call]
    return tell(arguments, script, shell=arguments.shell, script=script)


def complete_names(prefix: str, parsed_args: Namespace, **rest: object) -> list[str]:
    """Names that begin like a word on the command line, for argcomplete."""
    verb, store_uri = getattr(parsed_args, "verb", ""), getattr(parsed_args, "store_uri", None) or ""
    kinds = {"inspect": ("datasets",), "diff": ("datasets",), "stats": ("datasets",), "export-data": ("datasets",),
             "evaluate": ("trials",), "compare": ("trials",)}.get(verb, KINDS)  # fmt: skip
    rows = [row for uri in known_stores(store_uri) for kind in kinds for row in rows_of(kind, uri)]
    return [row.name for row in rows if row.name.startswith(prefix)]


def view(arguments: Namespace) -> int:
    """Open the page of a dataset, an evaluation, a trial, a run or a whole store in the browser, or write it to a file."""
    from tendon.view.command import view as open_view

    return open_view(arguments)
