"""What the configuration says of a conversion reaches the dataset by every way: plan, step, repeated by hand."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import pytest

from tendon import steps
from tendon.cli import main
from tendon.data.dataset import open_dataset
from tendon.errors import ConfigError, DataError
from tendon.registry.plan import RunPlan, load_plan

Maker = Callable[..., Path]
BASE = "experiment=reach_bc"


def planned(source: Path, store: Path, config: str) -> tuple[RunPlan, steps.PlanResult]:
    result = steps.plan(
        source_uri=str(source), store_uri=str(store), dataset_name="d", config=f"{BASE} {config}", sweep=[],
        episodes=1, confirm_episodes=1, champion="c", promote=False,
    )  # fmt: skip
    return load_plan(result.run_uri), result


def convert(source: Path, store: Path, plan: steps.PlanResult, **more: Any) -> steps.DatasetResult:
    return steps.convert(
        source_uri=str(source), source_digest=plan.source_digest, store_uri=str(store), dataset_name="d",
        **(plan.conversion | more),
    )  # fmt: skip


def test_options_reach_the_dataset(lift_like_hdf5: Maker, tmp_path: Path) -> None:
    source = lift_like_hdf5(images=True)
    config = "data.skip_episodes=[demo_2] data.resize=[16,20] data.codec=npy data.jpeg_quality=70"
    _, plan = planned(source, tmp_path, config)
    assert plan.conversion == {"skip_episodes": ["demo_2"], "resize": [16, 20], "codec": "npy", "jpeg_quality": 70}
    made = convert(source, tmp_path, plan, resize=[16.0, 20.0])  # as an engine hands numbers over
    assert made.dataset_uri == plan.dataset_uri
    dataset = open_dataset(made.dataset_uri)
    assert {(each.height, each.width, each.codec) for each in dataset.manifest.schema.cameras} == {(16, 20, "npy")}
    assert "demo_2" not in dataset.rows.ids()


def test_a_run_says_how_to_convert_by_hand(lift_like_hdf5: Maker, tmp_path: Path) -> None:
    from tendon.report.repeat import commands

    source = lift_like_hdf5(images=True)
    run, plan = planned(source, tmp_path, "data.skip_episodes=[demo_2] data.resize=[16,20] data.exact=true")
    words = shlex.split(commands(run)["convert"])
    assert words[0] == "tendon"
    assert main(words[1:]) == 0
    assert open_dataset(plan.dataset_uri).manifest.episodes == 5


def test_strict_is_asked_for_in_the_configuration(lift_like_hdf5: Maker, tmp_path: Path) -> None:
    source = lift_like_hdf5()
    with h5py.File(source, "a") as file:
        file["data/demo_1/actions"][0] = 5.0
    run, plan = planned(source, tmp_path, "data.strict=true")
    usual, _ = planned(source, tmp_path, "")
    assert (run.dataset_uri, run.trials[0].run_key) == (usual.dataset_uri, usual.trials[0].run_key)
    with pytest.raises(DataError, match="strict mode"):
        convert(source, tmp_path, plan)


@pytest.mark.parametrize("wrong", ["data.resize=[16]", "data.codec=gif", "data.jpeg_quality=0", "data.resize=[0,5]"])
def test_a_wrong_option_is_said_before_anything_is_made(lift_like_hdf5: Maker, tmp_path: Path, wrong: str) -> None:
    with pytest.raises(ConfigError, match=wrong.partition("=")[0]):
        planned(lift_like_hdf5(), tmp_path, wrong)
