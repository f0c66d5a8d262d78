"""What ``tendon rm`` would delete, who needs it, and the deletion: the marker first, so that what is half gone is not there.

In: the row of a run, trial, dataset or champion. Runs and trials that used a dataset are named; what a champion rests on
goes only by force.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tendon.registry.catalogue import ChampionRow, DatasetRow, Row, RunRow, TrialRow, list_champions, list_runs
from tendon.storage import ObjectInfo, Store, open_store
from tendon.storage.local import LocalStore
from tendon.storage.many import read_notes, side_by_side

FIRST = ("manifest.json", "plan.json", "status.json", ".complete.json")  # without these it does not exist


@dataclass(frozen=True)
class Removal:
    """A plan: the objects of one thing, by their keys in its store."""

    row: Row
    kind: str
    store_uri: str
    objects: tuple[ObjectInfo, ...]
    used_by: tuple[str, ...]  # names of what loses its source, but stays
    champions: tuple[str, ...]  # that rest on it

    @property
    def bytes(self) -> int:
        """How much space that frees."""
        return sum(info.size for info in self.objects)


def plan_removals(rows: Sequence[Row]) -> list[Removal]:
    """What deleting these things would delete; nothing is touched."""
    return [_plan(row) for row in rows]


def _plan(row: Row) -> Removal:
    kind = next(name for name, cls in KIND_OF.items() if isinstance(row, cls))
    store_uri, _, tail = row.uri.rpartition(f"/{kind}/")
    key = f"{kind}/{tail}"
    store = open_store(store_uri)
    if isinstance(row, ChampionRow):
        info = store.head(key)
        return Removal(row, kind, store_uri, (info,) if info else (), (), (row.name,))
    objects = tuple(store.list(f"{key}/"))
    runs = [] if isinstance(row, RunRow) else [run for run in list_runs(store_uri) if run.id != row.id]
    if isinstance(row, TrialRow):
        plans = read_notes(store, [f"runs/{run.id}/plan.json" for run in runs])
        users = [run for run in runs if _plans_trial(plans.get(f"runs/{run.id}/plan.json", {}), row.id)]
    else:
        users = [run for run in runs if run.dataset_uri.rstrip("/").endswith(f"/{tail}")]
    rests = tuple(
        one.name
        for one in list_champions(store_uri)
        if f"/{key}/" in f"{one.bundle_uri}/" or f"/{key}/" in f"{one.run_uri}/"
    )
    return Removal(row, kind, store_uri, objects, tuple(run.name for run in users), rests)


KIND_OF: dict[str, type[Row]] = {"runs": RunRow, "trials": TrialRow, "datasets": DatasetRow, "champions": ChampionRow}


def _plans_trial(plan: dict[str, object], run_key: str) -> bool:
    trials = plan.get("trials", ())
    return isinstance(trials, list) and any(one.get("run_key") == run_key for one in trials)


def remove(removals: Iterable[Removal]) -> None:
    """Delete what was planned; running it again deletes what is left."""
    for removal in removals:
        store = open_store(removal.store_uri)
        ordered = sorted(removal.objects, key=lambda info: _turn(info.key))
        first = [info.key for info in ordered if _turn(info.key) < len(FIRST)]
        for key in first:
            store.delete(key)
        side_by_side(store, store.delete, [info.key for info in ordered[len(first) :]])
        _drop_empty_folders(store, removal)


def _turn(key: str) -> int:
    name = key.rpartition("/")[2]
    return FIRST.index(name) if name in FIRST else len(FIRST)


def _drop_empty_folders(store: Store, removal: Removal) -> None:
    if not isinstance(store, LocalStore) or removal.kind == "champions":
        return
    root = Path(removal.row.uri)
    for path in sorted(root.rglob("*"), key=lambda path: -len(path.parts)):
        with suppress(OSError):  # something was put there meanwhile
            path.unlink() if path.is_symlink() else path.rmdir()
    with suppress(OSError):
        root.rmdir()
