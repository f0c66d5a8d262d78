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
from tendon.data.sources import open_source
from tendon.errors import ConfigError, DataError, Problem
from tendon.runs.plan import RunPlan, load_plan

Maker = Callable[..., Path]
BASE = "experiment=reach_bc env.observation=[object]"


def planned(source: Path | str, store: Path, config: str) -> tuple[RunPlan, steps.PlanResult]:
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
    from tendon.report.reproduce import commands

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


FAMILIES = ("bc", "bc_vae", "bc_rnn", "bc_transformer")
SEES = "env.observation=[object,agentview_image] policy.num_keypoints=0"


def refused(source: Path | str, store: Path, config: str) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        planned(source, store, config)
    return caught.value.problems


@pytest.mark.parametrize("policy", FAMILIES)
def test_a_crop_larger_than_the_camera_is_refused_at_plan(lift_like_hdf5: Maker, tmp_path: Path, policy: str) -> None:
    """By the size of the source's images, by that of data.resize, and by what the simulator draws."""
    source = lift_like_hdf5(images=True)
    side = open_source(str(source)).describe().schema.cameras[0].height
    config = f"policy={policy} {SEES} env.options={{image_size:{side}}}"
    (problem,) = refused(source, tmp_path, f"{config} policy.crop_size={side + 1}")
    assert problem.what == f"policy.crop_size is {side + 1}, agentview_image {side} x {side}"
    assert problem.where == "trial base: policy.crop_size"
    assert "the source" in problem.why
    assert problem.fix.startswith(f"policy.crop_size={side},")
    planned(source, tmp_path, f"{config} policy.crop_size={side}")
    (problem,) = refused(source, tmp_path, f"{config} policy.crop_size=13 data.resize=[12,20]")
    assert "agentview_image 12 x 20" in problem.what
    planned(source, tmp_path, f"{config} policy.crop_size=12 data.resize=[12,20]")
    smaller = config.replace(f"image_size:{side}", "image_size:10")
    (problem,) = refused(source, tmp_path, f"{smaller} policy.crop_size=12")
    assert "the simulator" in problem.why
    planned(source, tmp_path, f"{smaller} policy.crop_size=12 policy.resize=[16,16]")
    planned(source, tmp_path, f"policy={policy} env.observation=[object] policy.crop_size=500")  # it sees nothing


def test_a_crop_larger_than_the_simulators_camera_is_refused_for_a_scripted_expert(tmp_path: Path) -> None:
    sees = "env.observation=[agent_pos,top_image] policy.crop_size=90"
    (problem,) = refused("demo://reach?episodes=2&images=1", tmp_path, sees)  # it draws 84 pixels
    assert problem.what == "policy.crop_size is 90, top_image 84 x 84"


@pytest.mark.parametrize("policy", FAMILIES)
def test_a_picture_of_one_cell_for_the_keypoints_is_refused_at_plan(
    lift_like_hdf5: Maker, tmp_path: Path, policy: str
) -> None:
    source = lift_like_hdf5(images=True)  # of fewer than 32 pixels
    side = open_source(str(source)).describe().schema.cameras[0].height
    seen = (
        f"policy={policy} policy.crop_size=0 env.observation=[object,agentview_image] env.options={{image_size:{side}}}"
    )
    (problem,) = refused(source, tmp_path, seen)
    assert problem.what == f"agentview_image is too small for keypoints: {side} x {side} pixels reach the net"
    assert problem.where == "trial base: policy.num_keypoints"
    planned(source, tmp_path, f"{seen} policy.num_keypoints=0")
    planned(source, tmp_path, f"{seen} policy.resize=[40,40]")


@pytest.mark.parametrize("policy", FAMILIES)
def test_a_policy_made_by_hand_refuses_it_too(policy: str) -> None:
    """`tendon train` knows the sizes from the dataset; a camera need not be square."""
    pytest.importorskip("torch")
    from tendon.config.compose import compose
    from tendon.policies.registry import make_policy
    from tests.policies.features_of import features_of

    config = compose([f"policy={policy}", "data.uri=x", "policy.crop_size=41"]).policy
    with pytest.raises(ConfigError, match="front 40 x 48"):
        make_policy(config, features_of({"observation.images.front": (40, 48, 3), "action": 2}))


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        ("policy=pi0_tiny ~policy.hidden_dims", "has nothing to look at"),
        (
            "policy=vqbet ~policy.hidden_dims env.observation=[agentview_image,robot0_eye_in_hand_image]",
            "reads one camera, not 2",
        ),
    ],
)
def test_what_a_policy_cannot_look_at_is_told_by_the_plan(
    lift_like_hdf5: Maker, tmp_path: Path, policy: str, told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        planned(lift_like_hdf5(images=True), tmp_path, policy)
