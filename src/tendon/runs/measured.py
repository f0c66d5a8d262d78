"""What work took: CPU seconds, time, GPUs and bytes by kind of work, kept in the store for the forecast of the next run.

``measured/STEP/GROUP/KIND.json``: the newest measurement of a kind. A kind is a digest of what decides how fast a unit is; a
group (a policy, a task) holds kinds that are alike enough to say something of each other. Written around real work by
steps.py, read by forecast.py.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from tendon import fork_server
from tendon.config.digest import digest
from tendon.errors import TendonError
from tendon.runs.failures import now
from tendon.storage import open_store
from tendon.storage.json_values import read_note, to_json
from tendon.storage.uri import split_trial

FOLDER = "measured"
# Keys of the configuration that decide how long an update takes; what is learnt and how well does not.
TRAINING_SPEED = (
    *("batch_size", "gradient_accumulation_steps", "num_gpus", "sharding", "precision", "compile", "num_threads"),
    *("valid_freq", "valid_batches", "save_freq", "eval_freq", "freeze", "optimizer"),
)
PLAYING_SPEED = ("online_steps_between_rollouts", "online_rollout_n_episodes", "online_sampling_ratio")


@dataclass(frozen=True)
class Kind:
    """Work of one kind, e.g. updates of this policy with this batch size."""

    step: str  # train, export, evaluate, convert, engine
    group: str  # the policy, the task
    about: Any  # what decides how fast a unit is
    unit: str = "step"

    @property
    def folder(self) -> str:
        """Where kinds like this one are."""
        return f"{FOLDER}/{self.step}/{re.sub(r'[^A-Za-z0-9_.-]+', '-', self.group) or 'all'}"

    @property
    def key(self) -> str:
        """Where its measurement is."""
        return f"{self.folder}/{digest(self.about)}.json"


@dataclass(frozen=True)
class Measurement:
    """What so many units took. What came before the first unit (imports, starting simulators) is ``start_*``."""

    units: float
    unit: str
    cpu_s: float
    wall_s: float
    start_cpu_s: float = 0.0
    start_wall_s: float = 0.0
    gpus: int = 0
    device: str = "cpu"
    stored_bytes: int = 0
    gpu_bytes: int = 0  # of the GPU's memory at its peak
    gpu_bytes_total: int = 0
    source: str = ""  # where it was measured: a trial, a dataset
    when: str = ""  # ISO 8601, UTC


@dataclass
class Taken:
    """Filled in within ``measuring`` by who does the work; without units nothing is kept."""

    units: float = 0.0
    work_s: float | None = None  # of the units alone; None: all of it
    stored: str = ""  # where what was made lies, for its bytes
    gpus: int = 0
    device: str = "cpu"
    gpu_bytes: int = 0
    gpu_bytes_total: int = 0


def store_of(uri: str) -> str:
    """The store that a trial's address is in; empty for another address.

    Example:
        >>> store_of("s3://bucket/store/trials/0123/bundle")
        's3://bucket/store'
    """
    return split_trial(uri)[0]


def trial_of(uri: str) -> str:
    """The trial that an address is in, in words; empty for another address.

    Example:
        >>> trial_of("s3://bucket/store/trials/0123/bundle")
        'trial 0123'
    """
    store, tail = split_trial(uri)
    return f"trial {tail.partition('/')[0]}" if store else ""


@contextmanager
def measuring(store_uri: str, kind: Kind, source: str) -> Iterator[Taken]:
    """Within: work whose cost is kept when it ends well; a store that refuses changes nothing."""
    taken, began_s, began_cpu_s = Taken(), time.monotonic(), cpu_seconds()
    yield taken
    if not store_uri or not taken.units:
        return
    wall_s, cpu_s = time.monotonic() - began_s, cpu_seconds() - began_cpu_s
    share = 1.0 if taken.work_s is None else min(1.0, taken.work_s / max(wall_s, 1e-9))
    with suppress(TendonError):
        result = Measurement(
            units=taken.units,
            unit=kind.unit,
            cpu_s=round(cpu_s * share, 3),
            wall_s=round(wall_s * share, 3),
            start_cpu_s=round(cpu_s * (1 - share), 3),
            start_wall_s=round(wall_s * (1 - share), 3),
            gpus=taken.gpus,
            device=taken.device,
            stored_bytes=stored_bytes(taken.stored) if taken.stored else 0,
            gpu_bytes=taken.gpu_bytes,
            gpu_bytes_total=taken.gpu_bytes_total,
            source=source,
            when=now(),
        )
        save(store_uri, kind, result)


def save(store_uri: str, kind: Kind, result: Measurement) -> None:
    """Keep the newest measurement of a kind."""
    open_store(store_uri).write(kind.key, to_json(asdict(result), indent=1).encode())


def find(store_uri: str, kind: Kind) -> tuple[Measurement, bool] | None:
    """The measurement of a kind and True; else the newest of its group and False; None when there is none."""
    store = open_store(store_uri)
    exact = read_measurement(store_uri, kind.key)
    if exact is not None:
        return exact, True
    notes = [_parsed(read_note(store, entry.key)) for entry in store.list(f"{kind.folder}/")]
    others = [one for one in notes if one is not None]
    return (max(others, key=lambda one: one.when), False) if others else None


def read_measurement(store_uri: str, key: str) -> Measurement | None:
    """The measurement at a key; None when there is none."""
    return _parsed(read_note(open_store(store_uri), key))


def _parsed(note: Mapping[str, Any]) -> Measurement | None:
    known = {field.name for field in fields(Measurement)}
    try:
        return Measurement(**{name: value for name, value in note.items() if name in known})
    except TypeError:
        return None


def training_kind(config: Mapping[str, Any]) -> Kind:
    """Updates of a configuration, as a plan has it."""
    policy, env = config["policy"], config["env"]
    about = {
        "policy": {key: value for key, value in policy.items() if key != "init_from"},
        "training": {key: config["training"].get(key) for key in TRAINING_SPEED},
        "observation": env["observation"],
        "task": [env["simulator"], env["task"]],
        "device": config.get("device"),
    }
    if config["training"].get("online_steps"):
        about["playing"] = {key: config["training"].get(key) for key in PLAYING_SPEED}
    return Kind("train", str(policy["name"]), about, "step")


def export_kind(config: Mapping[str, Any]) -> Kind:
    """A bundle made of a checkpoint."""
    return Kind("export", str(config["policy"]["name"]), config["policy"], "bundle")


def evaluation_kind(config: Mapping[str, Any]) -> Kind:
    """Episodes of a policy in its simulator."""
    env = config["env"]
    policy = {key: value for key, value in config["policy"].items() if key != "init_from"}
    about = {
        "env": {key: env[key] for key in ("simulator", "task", "fps", "episode_length", "options", "observation")},
        "policy": policy,
        "guests": config["eval"]["batch_size"],
    }
    return Kind("evaluate", f"{env['simulator']}-{env['task']}", about, "episode")


def conversion_kind(source_uri: str, options: Any) -> Kind:
    """Demonstrations of one place, by episode where an expert makes them, else by megabyte."""
    from tendon.evaluate.demo_uri import is_demo, parse_demo

    if is_demo(source_uri):
        demo = parse_demo(source_uri)
        about = {"env": demo.env.identity, "noise": demo.noise, "images": demo.images, "options": options}
        return Kind("convert", f"{demo.env.simulator}-{demo.env.task}", about, "episode")
    return Kind("convert", "files", {"source": source_uri.partition("?")[0], "options": options}, "MB")


def engine_kind(where: str) -> Kind:
    """What the tasks of a run cost beside the work in them: processes that start and import."""
    return Kind("engine", where, where, "task")


class StepClock:
    """Hears how far a training has come, and tells how long so many of its steps take."""

    def __init__(self, follow: Callable[[int, int], None]) -> None:
        self._follow, self._first, self._last = follow, (0, -1.0), (0, -1.0)

    def follow(self, done: int, total: int) -> None:
        """Called by the loop."""
        self._last = (done, time.monotonic())
        self._first = self._last if self._first[1] < 0 else self._first
        self._follow(done, total)

    def seconds(self, units: float) -> float | None:
        """Of so many steps; None when too few were heard of."""
        steps, passed_s = self._last[0] - self._first[0], self._last[1] - self._first[1]
        return passed_s / steps * units if steps > 0 else None


def cpu_seconds() -> float:
    """CPU time of this process and of every child that has ended, forks of a server among them."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system + fork_server.cpu_seconds()


def gpus_here() -> int:
    """GPUs that this container sees, without importing torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", os.environ.get("NVIDIA_VISIBLE_DEVICES", "all"))
    if visible in ("", "-1", "none", "void"):
        return 0
    there = len([path for path in Path("/dev").glob("nvidia*") if path.name[6:].isdigit()])
    return min(there, len(visible.split(","))) if visible != "all" else there


def stored_bytes(uri: str) -> int:
    """Bytes of everything below an address."""
    return sum(entry.size for entry in open_store(uri).list())
