"""Files of weights alone: which stay, and when they cannot be asked for. What is in them: policies/rocket1/test_minestudio_facade.py."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tendon.config.compose import compose
from tendon.errors import ConfigError
from tendon.runs.planner import run_key
from tendon.storage import open_store
from tendon.train.watch.weight_files import WeightFiles


def left(folder: Path, top_k: int, now: int) -> list[str]:
    store = open_store(str(folder))
    for step in (3, 6, 9, 12):
        for twin in ("", "-EMA"):
            store.write(f"weights/weight-epoch=0-step={step}{twin}.ckpt", b"x")
    config = compose(["data.uri=x", "save.weights_every_n_steps=3", f"save.weights_top_k={top_k}"])
    run: Any = SimpleNamespace(store=store)
    WeightFiles(config)._remove_old(run, now)
    return sorted(info.key.removeprefix("weights/weight-epoch=0-step=") for info in store.list("weights/"))


def test_the_newest_pairs_stay(tmp_path: Path) -> None:
    assert left(tmp_path / "one", 1, 12) == ["12-EMA.ckpt", "12.ckpt"]
    assert left(tmp_path / "two", 2, 12) == ["12-EMA.ckpt", "12.ckpt", "9-EMA.ckpt", "9.ckpt"]
    assert len(left(tmp_path / "all", -1, 12)) == 8
    # an attempt that begins before what the last one wrote makes those files anew
    assert left(tmp_path / "again", 1, 6) == ["6-EMA.ckpt", "6.ckpt"]


def test_files_of_weights_change_no_key_and_need_whole_weights() -> None:
    plain = compose(["data.uri=store/datasets/x/0123"])
    asked = compose(["data.uri=store/datasets/x/0123", "save.weights_every_n_steps=5", "save.weights_top_k=1"])
    assert run_key(plain) == run_key(asked)
    with pytest.raises(ConfigError, match="weights_every_n_steps"):
        compose(["data.uri=x", "save.weights_every_n_steps=5", "training.sharding=fsdp", "training.num_gpus=2"])
    with pytest.raises(ConfigError, match="weights_filename"):
        compose(["data.uri=x", "save.weights_filename=weights"])
