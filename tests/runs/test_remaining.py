"""What plan says is left to do: finished trials, failed ones, batches, sizes of pods."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tendon import steps
from tendon.errors import ConfigError
from tendon.registry.champion import Champion, swap_champion
from tendon.runs.limits import MOST_GROUPS, batch_advice
from tendon.runs.outcomes import TrialOutcome, load_outcomes, save_outcome
from tendon.runs.plan import load_plan
from tendon.runs.sizing import GIB, MIB, size_steps
from tendon.storage import open_store
from tests.runs.test_endings import end_well, finish, plan


def swept(count: int) -> dict[str, Any]:
    values = [round(0.001 * (number + 1), 4) for number in range(count)]
    return {"sweep": [{"key": "training.lr", "name": "lr", "group": 0, "values": values}]}


def fail(run_uri: str, name: str) -> None:
    outcome = TrialOutcome(name, load_plan(run_uri).trial(name).run_key, status="failed", failed_step="train")
    save_outcome(run_uri, outcome)


def test_a_first_run_has_a_group_for_each_trial(tmp_path: Path) -> None:
    assert plan(tmp_path, **swept(3)).groups == [["lr_0.001"], ["lr_0.002"], ["lr_0.003"]]
    assert plan(tmp_path, **swept(3), trials_per_pod=2).groups == [["lr_0.001", "lr_0.002"], ["lr_0.003"]]


def test_finished_trials_are_not_done_again_and_failed_ones_are_tried_last(tmp_path: Path) -> None:
    run = plan(tmp_path, **swept(3))
    end_well(run.run_uri)
    assert not plan(tmp_path, "j2", **swept(3)).work
    fail(run.run_uri, "lr_0.001")
    again = plan(tmp_path, "j3", **swept(3))
    assert (again.work, again.groups) == (True, [["lr_0.001"]])
    open_store(run.run_uri).delete("outcomes/lr_0.003.json")
    assert plan(tmp_path, "j4", **swept(3)).groups == [["lr_0.003"], ["lr_0.001"]]


def test_a_finished_trial_whose_files_are_gone_is_done_again(tmp_path: Path) -> None:
    run = plan(tmp_path)
    end_well(run.run_uri)
    name = load_plan(run.run_uri).trials[0].name
    open_store(load_outcomes(load_plan(run.run_uri))[name].bundle_uri).delete(".complete.json")
    assert plan(tmp_path, "j2").groups == [[name]]


def test_a_conclusion_stands_until_another_champion_comes(tmp_path: Path) -> None:
    run = plan(tmp_path)
    end_well(run.run_uri)
    store = open_store(str(tmp_path))
    other = Champion("best", "digest", "bundle", "another-run", 40, 50, "2026-11-01")
    swap_champion(store, other, None)
    again = plan(tmp_path, "j2")
    assert (again.work, again.groups) == (True, [[load_plan(run.run_uri).trials[0].name]])
    assert "the conclusion is not" in again.reason
    end_well(run.run_uri, "j2")
    assert not plan(tmp_path, "j3").work
    swap_champion(
        store, replace(other, run_uri=run.run_uri, policy_digest="own"), store.head("champions/best.json").etag
    )  # type: ignore[union-attr]
    assert not plan(tmp_path, "j4").work, "`tendon promote` of this run's winner"


def test_another_promote_setting_is_another_run(tmp_path: Path) -> None:
    run = plan(tmp_path)
    end_well(run.run_uri)
    assert plan(tmp_path, "j2", promote=True).work


def test_a_run_takes_as_many_trials_as_the_engine_can_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: 150 trials were one object that Argo refuses ("Request entity too large"), without page or notice."""
    assert len(plan(tmp_path / "here", **swept(150)).groups) == 150, "no engine keeps an object on this machine"
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    first = plan(tmp_path, **swept(150))
    assert len(first.groups) == MOST_GROUPS
    words = f"{MOST_GROUPS} of 150 trials in this run; start the same run again for the rest"
    assert first.reason == f"{words} (5 runs), or policy_trials_per_pod=5"
    for (name,) in first.groups[:-1]:
        fail(first.run_uri, name)
    second = plan(tmp_path, "j2", **swept(150))
    assert second.groups[0] == first.groups[-1], "never-tried trials come before failed ones"
    assert not {name for group in second.groups for name in group} & {name for (name,) in first.groups[:-1]}
    whole = plan(tmp_path, "j3", **swept(150), trials_per_pod=5)
    assert (len(whole.groups), sum(map(len, whole.groups))) == (30, 150)


def test_the_limit_leaves_a_tenth_of_the_object_free() -> None:
    assert 0.85 * 1024 < 123 + 24 * MOST_GROUPS <= 0.9 * 1024
    assert batch_advice(100, MOST_GROUPS).endswith("(4 runs), or policy_trials_per_pod=4")


def test_retries_are_kept_in_the_plan_and_make_no_other_run(tmp_path: Path) -> None:
    first = plan(tmp_path, trial_retries=0)
    assert load_plan(first.run_uri).trial_retries == 0
    second = plan(tmp_path, "j2", trial_retries=5)
    assert (second.run_uri, load_plan(second.run_uri).trial_retries) == (first.run_uri, 5)


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"trials_per_pod": 0}, "policy_trials_per_pod"),
        ({"trials_per_pod": 101}, "policy_trials_per_pod"),
        ({"trial_retries": -1}, "policy_trial_retries"),
    ],
)
def test_numbers_of_pods_and_tries_are_checked(tmp_path: Path, wrong: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        plan(tmp_path, **wrong)


def test_reach_fits_beside_kubeflow_on_a_small_node(tmp_path: Path) -> None:
    """Before: 4 CPUs and 16 GiB for a trial of reach: "Insufficient cpu", pending for ever."""
    sizes = plan(tmp_path).resources
    assert {name: sizes[name] for name in sizes if not name.endswith(("_node", "_waiting"))} == {
        f"cpu_{pod}": "500m" for pod in ("data", "train", "sim")
    } | {f"memory_{pod}": "1Gi" for pod in ("data", "train", "sim")}


def test_sizes_follow_task_policy_and_data() -> None:
    small = {
        "env": {"simulator": "reach", "observation": ["agent_pos"]},
        "policy": {"name": "bc", "hidden_dims": [64, 64]},
        "training": {"batch_size": 100},
    }
    lift = small | {"env": {"simulator": "robosuite", "observation": ["object"]}}
    rnn = lift | {"policy": {"name": "bc_rnn", "hidden_dims": []}}
    images = lift | {"env": {"simulator": "robosuite", "observation": ["agentview_image"]}}
    assert size_steps([lift], 0)["memory_sim"] == "4Gi"
    assert size_steps([lift], 0)["memory_train"] == "1Gi"
    assert size_steps([small, rnn], 0)["memory_train"] == "4Gi", "the largest trial counts"
    assert size_steps([images], 0) | {} == size_steps([images, small], 0)
    assert (size_steps([images], 0)["cpu_train"], size_steps([images], 0)["memory_train"]) == ("4", "16Gi")
    assert (size_steps([small], 0)["cpu_node"], size_steps([small], 0)["memory_node"]) == ("500m", "2Gi")
    eight = images | {"training": images["training"] | {"num_gpus": 8}}
    assert (size_steps([eight], 0)["cpu_node"], size_steps([eight], 0)["memory_node"]) == ("32", "129Gi")
    assert [size_steps([small], size)["memory_data"] for size in (MIB, GIB, 100 * GIB)] == ["1Gi", "4Gi", "8Gi"]


def test_select_lists_trials_that_never_ended(tmp_path: Path) -> None:
    run = plan(tmp_path, **swept(2))
    fail(run.run_uri, "lr_0.001")
    board = steps.select(run_uri=run.run_uri).leaderboard
    assert [row["failed_step"] for row in board] == ["train", "train"]
    finish(tmp_path)
