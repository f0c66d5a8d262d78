"""Names where an address is taken: ``reach-bc-20261129-1602-ff9d4f``, the beginning of one, or the first digits of a hash.

``address(text, KIND)`` gives the address that a name stands for, and any other text back as it is. A name that could be two
things is an error that lists them. Looked for in STORE of ``STORE/runs/NAME``, else in TENDON_STORE_URI, else where the
verbs keep things when nothing is said.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from tendon.errors import ConfigError
from tendon.registry.catalogue import KINDS, ChampionRow, Row, RunRow, rows_of
from tendon.storage import join, open_store
from tendon.storage.json_values import read_note
from tendon.storage.trees import MARKER

STORE = "TENDON_STORE_URI"
USUAL_STORES = ("outputs/run", "outputs/demo", "outputs/train", "outputs")
SHORTEST_HASH = 4
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
DIGEST = re.compile(r"[0-9a-f]{16,64}")
FOLDER_OF = {kind: f"/{kind}/" for kind in KINDS}
POLICIES = ("trials", "champions", "runs")  # what stands for a policy: a trial, a champion, the winner of a run


def known_stores(store_uri: str = "") -> list[str]:
    """Where names are looked for: the store that was given, or the usual ones that are there."""
    if store_uri or os.environ.get(STORE):
        return [store_uri or os.environ[STORE]]
    return [uri for uri in USUAL_STORES if any((Path(uri) / kind).is_dir() for kind in KINDS)]


def address(text: str, kinds: Sequence[str], store_uri: str = "") -> str:
    """The address that a text means.

    Args:
        text: an address, or a name.
        kinds: of KINDS, what is asked for.
        store_uri: where to look, when the text does not say it.

    Raises:
        ConfigError: it is a name of several things.
    """
    row = find(text, kinds, store_uri)
    return row.uri if row is not None else text


def policy_address(text: str, store_uri: str = "") -> str:
    """The address of the policy that a text means: a trial's bundle, a champion's, or that of the winner of a run."""
    row = find(text, POLICIES, store_uri)
    if row is None:
        return text
    if isinstance(row, ChampionRow):
        return row.bundle_uri
    if isinstance(row, RunRow):
        return _winner(row)
    return bundle_or_trial(row.uri)


def bundle_or_trial(trial_uri: str) -> str:
    """A trial's bundle where it has one, else the trial itself (which means its newest checkpoint)."""
    bundle_uri = join(trial_uri, "bundle")
    return bundle_uri if open_store(bundle_uri).head(MARKER) is not None else trial_uri


def _winner(run: RunRow) -> str:
    plan = read_note(open_store(run.uri), "plan.json")
    key = next((str(one["run_key"]) for one in plan.get("trials", ()) if one.get("name") == run.winner), "")
    if not key:
        raise ConfigError(
            f"{run.name} has no winner",
            where=run.uri,
            why=run.verdict or "it has not ended",
            fix=f"tendon ls trials --store-uri {run.uri.rpartition('/runs/')[0]}",
        )
    return bundle_or_trial(join(run.uri.rpartition("/runs/")[0], "trials", key))


def find(text: str, kinds: Sequence[str], store_uri: str = "") -> Row | None:
    """The row that a name stands for; None where the text is an address, or nothing has that name.

    Raises:
        ConfigError: it is a name of several things.
    """
    store, kinds, name = _parted(text, kinds)
    if not name:
        return None
    stores = [store] if store else known_stores(store_uri)
    rows = [row for uri in stores for kind in kinds for row in rows_of(kind, uri)]
    return chosen(name, rows, ", ".join(stores))


def chosen(name: str, rows: Iterable[Row], where: str) -> Row | None:
    """The only row of that name; the one whose whole name it is comes first."""
    candidates = {row.uri: row for row in rows if is_meant(name, row)}
    exact = [row for row in candidates.values() if name in (row.name, row.id)]
    if len(exact) == 1 or len(candidates) == 1:
        return (exact or list(candidates.values()))[0]
    if not candidates:
        return None
    listed = sorted(row.name for row in candidates.values())
    more = f" and {len(listed) - 8} more" if len(listed) > 8 else ""
    raise ConfigError(
        f"{name} could be {len(listed)} things",
        where=where,
        why=f"it begins {', '.join(listed[:8])}{more}",
        fix=f"write more of it, or the digits at its end: {listed[0].rpartition('-')[2]}",
    )


def is_meant(name: str, row: Row) -> bool:
    """Whether a text names a row: its beginning, the first digits of its hash, or any words before these."""
    if row.name.startswith(name) or name == row.id:
        return True
    tail = name.rpartition("-")[2]
    return len(tail) >= SHORTEST_HASH and row.id.startswith(tail) and (tail == name or "-" in name)


def _parted(text: str, kinds: Sequence[str]) -> tuple[str, Sequence[str], str]:
    """Store, kinds and name of a text; no name where it is an address as it stands."""
    plain = text.rstrip("/")
    for kind in kinds:
        store, slash, name = plain.rpartition(FOLDER_OF[kind])
        if slash and NAME.fullmatch(name) and not DIGEST.fullmatch(name) and kind != "champions":
            if "://" not in plain and Path(plain, "manifest.json" if kind == "datasets" else "").exists():
                return "", kinds, ""
            return store, (kind,), name
    is_name = NAME.fullmatch(plain) and plain == text and not Path(text).exists()
    return "", kinds, text if is_name else ""
