"""A mixture of datasets is trained on through the configuration alone, and resumed exactly."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tendon import steps
from tendon.config.compose import compose
from tendon.config.schema import TrainConfig
from tendon.data.convert import convert, dataset_uri
from tendon.data.sources import open_source
from tendon.data.stats import DatasetStats
from tendon.errors import Interrupted
from tendon.runs.planner import run_key
from tendon.train.loop.training import train
from tendon.train.watch.callbacks import Callback

SMALL = (
    "env=lift", "env.observation=[object]", "policy.hidden_dims=[16]", "training.batch_size=8", "training.offline_steps=12",
    "training.save_freq=4", "training.valid_freq=6", "training.log_freq=3", "training.num_threads=1", "device=cpu",
)  # fmt: skip


def converted(path: Path, folder: Path, name: str) -> str:
    manifest = convert(open_source(str(path)), str(folder), name)
    return dataset_uri(str(folder), name, manifest.plan)


class Stop(Callback):
    """Ctrl-C after update 6."""

    def on_step(self, run: Any, step: int, update: Any) -> None:
        if step == 6:
            signal.raise_signal(signal.SIGTERM)


def test_a_mixture_is_trained_on(lift_like_hdf5: Callable[..., Path], tmp_path: Path) -> None:
    first = converted(lift_like_hdf5("a.hdf5"), tmp_path, "a")
    second = converted(lift_like_hdf5("b.hdf5", seed=5, episodes=4), tmp_path, "b")

    def config(*more: str) -> TrainConfig:
        return compose([*SMALL, f"data.uri={first}", *more])

    mixed = config(f"data.mixture=[{second}]", "data.mixture_weights=[1,1]")
    alone = steps.train(config=config(), dataset_uri=first, trial_uri=str(tmp_path / "alone"))
    whole = steps.train(config=mixed, dataset_uri=first, trial_uri=str(tmp_path / "mixed"))
    assert whole.weights_sha256 != alone.weights_sha256
    stored = next((tmp_path / "mixed").rglob("pretrained_model/stats.json"))
    stats = DatasetStats.from_json(stored.read_text())
    assert (stats.episodes, stats.features["action"].count) == (5 + 3, 49 + 30)  # of both training splits

    with pytest.raises(Interrupted):
        train(mixed, first, stats, str(tmp_path / "cut"), callbacks=[Stop()])
    again = train(mixed, first, stats, str(tmp_path / "cut"))
    assert (again.resumed_from, again.weights_sha256) == (7, whole.weights_sha256)
    lines = [json.loads(line) for line in (tmp_path / "mixed/metrics.jsonl").read_text().splitlines()]
    assert any("train/loss" in line for line in lines)


def test_keys_of_the_stream_are_part_of_the_run_key_once_they_are_set() -> None:
    def key(*more: str) -> str:
        return run_key(compose([*SMALL, "data.uri=store/datasets/x/0123", *more]))

    usual = key()
    assert key("data.fetches=3", "data.tier=window") == usual
    assert key("data.order=auto", "data.mixture=[]", "data.edges={}") == usual
    changed = [
        key("data.drop_last=3"),
        key("data.order=slots"),
        key("data.edges={action: zero}"),
        key("data.mixture=[other]"),
    ]
    assert len({usual, *changed}) == 5
