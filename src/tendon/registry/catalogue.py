"""What lies in a store, as rows with names: runs, trials, datasets and champions.

A row costs one small object, read side by side with the others: 500 runs are listed within a second. Called by ``tendon
ls``, ``tendon show``, the index page and whoever resolves a name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, TypeVar

from tendon.config.schema import num_updates
from tendon.storage import ObjectInfo, Store, join, open_store
from tendon.storage.many import folders, read_notes, side_by_side

HASH_DIGITS = 6  # of an address, at the end of a name
SILENT_BEATS = 3  # so many signs of life that did not come, and a training has stopped
KINDS = ("runs", "trials", "datasets", "champions")


@dataclass(frozen=True)
class Row:
    """What all kinds have: a name, the hash that it ends with, where it is, and when it was made (seconds since 1970)."""

    name: str
    id: str
    uri: str
    at: float

    @property
    def when(self) -> str:
        """ISO 8601, UTC; empty where nobody knows."""
        return datetime.fromtimestamp(self.at, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ") if self.at else ""


@dataclass(frozen=True)
class RunRow(Row):
    """One run of the DAG; rates are the winner's, on confirmation seeds."""

    state: str = ""  # concluded | part | open
    dataset: str = ""
    dataset_uri: str = ""
    task: str = ""
    policies: tuple[str, ...] = ()
    num_trials: int = 0
    winner: str = ""
    successes: int = 0
    n: int = 0
    crashed: int = 0
    verdict: str = ""
    seconds: float = 0.0
    record: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def rate(self) -> float | None:
        """Share of successes."""
        return self.successes / self.n if self.n else None


@dataclass(frozen=True)
class TrialRow(Row):
    """One training, of a run or alone."""

    state: str = ""  # finished | training | stopped
    trial: str = ""  # its name in the run
    run_id: str = ""
    policy: str = ""
    env: str = ""
    step: int = 0
    num_steps: int = 0
    loss: float | None = None


@dataclass(frozen=True)
class DatasetRow(Row):
    """One converted dataset."""

    dataset: str = ""
    episodes: int = 0
    steps: int = 0
    bytes: int = 0
    source: str = ""


@dataclass(frozen=True)
class ChampionRow(Row):
    """Who is champion of a task."""

    protocol: str = ""
    policy_digest: str = ""
    bundle_uri: str = ""
    run_uri: str = ""
    successes: int = 0
    n: int = 0
    history: tuple[Mapping[str, Any], ...] = field(default=(), compare=False, repr=False)

    @property
    def rate(self) -> float | None:
        """Share of successes on the confirmation seeds that it was promoted with."""
        return self.successes / self.n if self.n else None


AnyRow = TypeVar("AnyRow", bound=Row)


def list_runs(store_uri: str) -> list[RunRow]:
    """Every run, the newest first."""
    store = open_store(store_uri)
    runs: dict[str, dict[str, ObjectInfo]] = {}
    for info in store.list("runs/"):
        _, run_id, key = info.key.split("/", 2) if info.key.count("/") >= 2 else ("", "", "")
        if run_id:
            runs.setdefault(run_id, {})[key] = info
    planned = {run_id: files for run_id, files in runs.items() if "plan.json" in files}
    files_read = {run_id: "record.json" if "record.json" in files else "plan.json" for run_id, files in planned.items()}
    notes = read_notes(store, [f"runs/{run_id}/{name}" for run_id, name in files_read.items()])
    rows = []
    for run_id, name in files_read.items():
        note = notes.get(f"runs/{run_id}/{name}")
        if note is not None:
            make = _run_of_record if name == "record.json" else _run_of_plan
            rows.append(make(join(store_uri, "runs", run_id), run_id, note, planned[run_id]))
    return newest(rows)


def _run_of_record(uri: str, run_id: str, record: Mapping[str, Any], files: Mapping[str, ObjectInfo]) -> RunRow:
    scores = record.get("scores", {})
    common = _run_of(uri, run_id, str(record.get("dataset_uri", "")), record.get("configs", {}), files)
    return RunRow(
        **common,
        winner=str(record.get("winner", "")),
        successes=int(scores.get("winner.successes") or 0),
        n=int(scores.get("winner.n") or 0),
        crashed=int(scores.get("winner.crashed") or 0),
        verdict=str(record.get("verdict", "")),
        seconds=sum(value for value in record.get("timings", {}).values() if isinstance(value, (int, float))),
        record=record,
    )


def _run_of_plan(uri: str, run_id: str, plan: Mapping[str, Any], files: Mapping[str, ObjectInfo]) -> RunRow:
    trials = plan.get("trials", ())
    configs = {str(one.get("name", "")): one.get("config", {}) for one in trials}
    ended = sum(key.startswith("outcomes/") for key in files)
    verdict = f"{ended} of {len(configs)} trials ended" if "concluded.json" not in files else "not reported"
    return RunRow(
        **_run_of(uri, run_id, str(plan.get("dataset_uri", "")), configs, files), verdict=verdict, record=plan
    )


def _run_of(
    uri: str, run_id: str, dataset_uri: str, configs: Mapping[str, Any], files: Mapping[str, ObjectInfo]
) -> dict[str, Any]:
    policies = tuple(dict.fromkeys(_part(config, "policy", "name") for config in configs.values()))
    first: Mapping[str, Any] = next(iter(configs.values()), {})
    dataset = dataset_name(dataset_uri)
    at = files["plan.json"].modified
    words = (dataset, policies[0] if len(policies) == 1 else f"{len(policies)}-policies" if policies else "")
    return {
        "name": named(words, at, run_id),
        "id": run_id,
        "uri": uri,
        "at": at,
        "state": "concluded" if "concluded.json" in files and "report.html" in files else "open",
        "dataset": dataset,
        "dataset_uri": dataset_uri,
        "task": _part(first, "env", "task"),
        "policies": policies,
        "num_trials": len(configs),
    }


def list_trials(store_uri: str) -> list[TrialRow]:
    """Every training, the newest first."""
    store = open_store(store_uri)
    keys = folders(store, "trials/")
    plans = read_notes(store, [f"runs/{run_id}/plan.json" for run_id in folders(store, "runs/")])
    notes = read_notes(store, [f"trials/{key}/{name}.json" for key in keys for name in ("status", "heartbeat")])
    planned = {
        str(trial.get("run_key")): (str(plan.get("run_id", "")), trial)
        for plan in plans.values()
        for trial in plan.get("trials", ())
    }
    alone = [key for key in keys if key not in planned]
    configs = dict(zip(alone, side_by_side(store, lambda key: _saved_config(store, key), alone), strict=True))

    def row(key: str) -> TrialRow:
        run_id, trial = planned.get(key, ("", {}))
        config = trial.get("config") or configs.get(key, {})
        return _trial(store, key, run_id, str(trial.get("name", "")), config, notes)

    return newest(row(key) for key in keys)


def _trial(
    store: Store, key: str, run_id: str, trial: str, config: Mapping[str, Any], notes: Mapping[str, Mapping[str, Any]]
) -> TrialRow:
    status, beat = notes.get(f"trials/{key}/status.json", {}), notes.get(f"trials/{key}/heartbeat.json", {})
    at = float(beat.get("at") or 0.0)
    env, policy = _part(config, "env", "name"), _part(config, "policy", "name")
    is_silent = datetime.now(timezone.utc).timestamp() - at > SILENT_BEATS * float(beat.get("every_s") or 30.0)
    state = "finished" if status.get("status") == "finished" else "training"
    if state == "training" and (is_silent or beat.get("state") != "running"):
        state = "stopped"
    words = (env, policy, trial if trial != "base" else "")
    loss = status.get("metrics", {}).get("valid_loss", status.get("metrics", {}).get("train_loss"))
    return TrialRow(
        name=named(words, at, key),
        id=key,
        uri=join(store.uri, "trials", key),
        at=at,
        state=state,
        trial=trial,
        run_id=run_id,
        policy=policy,
        env=env,
        step=int(status.get("step") or beat.get("step") or 0),
        num_steps=num_updates(config.get("training", {})),
        loss=loss if isinstance(loss, (int, float)) else None,
    )


def _saved_config(store: Store, key: str) -> Mapping[str, Any]:
    """The configuration of a training that no plan names, from its newest checkpoint; empty before the first one."""
    import yaml

    from tendon.errors import TendonError

    for step in reversed([name for name in folders(store, f"trials/{key}/checkpoints/") if name.isdigit()]):
        try:
            tree = yaml.safe_load(store.read(f"trials/{key}/checkpoints/{step}/pretrained_model/config.yaml"))
        except (TendonError, yaml.YAMLError):
            continue
        return tree if isinstance(tree, dict) else {}
    return {}


def list_datasets(store_uri: str) -> list[DatasetRow]:
    """Every converted dataset, the newest first."""
    store = open_store(store_uri)
    places = [f"{name}/{one}" for name in folders(store, "datasets/") for one in folders(store, f"datasets/{name}/")]
    keys = [f"datasets/{place}/manifest.json" for place in places]
    notes = read_notes(store, keys)
    heads = dict(zip(keys, side_by_side(store, store.head, keys), strict=True))
    rows: list[DatasetRow] = []
    for place, key in zip(places, keys, strict=True):
        note, head = notes.get(key), heads[key]
        if note is None or head is None:  # its conversion has not finished
            continue
        dataset, _, digest = place.partition("/")
        rows.append(
            DatasetRow(
                name=named((dataset,), head.modified, digest),
                id=digest,
                uri=join(store_uri, "datasets", place),
                at=head.modified,
                dataset=dataset,
                episodes=int(note.get("episodes", 0)),
                steps=int(note.get("steps", 0)),
                bytes=sum(int(shard.get("bytes", 0)) for shard in note.get("shards", ())),
                source=", ".join(str(one.get("uri", "")) for one in note.get("sources", ())),
            )
        )
    return newest(rows)


def list_champions(store_uri: str) -> list[ChampionRow]:
    """Every champion, the newest first; its name has no time: it is a place, not a thing."""
    store = open_store(store_uri)
    keys = [info.key for info in store.list("champions/") if info.key.endswith(".json")]
    rows = []
    for key, note in read_notes(store, keys).items():
        if "policy_digest" not in note:  # a ledger
            continue
        rows.append(
            ChampionRow(
                name=key.removeprefix("champions/").removesuffix(".json"),
                id=str(note["policy_digest"]),
                uri=join(store_uri, key),
                at=seconds_of(str(note.get("when", ""))),
                protocol=str(note.get("protocol", "")),
                policy_digest=str(note["policy_digest"]),
                bundle_uri=str(note.get("bundle_uri", "")),
                run_uri=str(note.get("run_uri", "")),
                successes=int(note.get("successes", 0)),
                n=int(note.get("n", 0)),
                history=tuple(note.get("history", ())),
            )
        )
    return newest(rows)


LISTS: Mapping[str, Callable[[str], Sequence[Row]]] = {
    "runs": list_runs,
    "trials": list_trials,
    "datasets": list_datasets,
    "champions": list_champions,
}


def rows_of(kind: str, store_uri: str) -> Sequence[Row]:
    """The rows of one of KINDS."""
    return LISTS[kind](store_uri)


def newest(rows: Iterable[AnyRow]) -> list[AnyRow]:
    """In the order in which people read them."""
    return sorted(rows, key=lambda row: (-row.at, row.name))


def named(words: Iterable[str], at: float, hash: str) -> str:
    """``reach-bc-20261129-1602-ff9d4f``: what it is, when it was made (UTC), and the first digits of its address."""
    when = datetime.fromtimestamp(at, timezone.utc).strftime("%Y%m%d-%H%M") if at else ""
    plain = [re.sub(r"[^A-Za-z0-9_.]+", "-", word).strip("-") for word in words]
    return "-".join(part for part in (*plain, when, hash[:HASH_DIGITS]) if part)


def dataset_name(uri: str) -> str:
    """What a dataset was converted as, from its address ``STORE/datasets/NAME/DIGEST``."""
    return uri.rstrip("/").rpartition("/")[0].rpartition("/")[2]


def seconds_of(when: str) -> float:
    """Of a time in ISO 8601, or as reports write it; 0 where it is neither."""
    text = when.replace(" UTC", "+00:00").replace("Z", "+00:00")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return 0.0
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """A configuration as dotted keys and texts."""
    values: dict[str, str] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            values |= flat(value, f"{prefix}{key}.")
        else:
            values[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value)
    return values


def _part(config: Any, section: str, key: str) -> str:
    part = config.get(section, {}) if isinstance(config, Mapping) else {}
    return str(part.get(key, "")) if isinstance(part, Mapping) else ""
