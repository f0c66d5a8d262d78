"""Tendon from Python: what the documentation's examples do, and what a wrong observation is answered with."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tendon
from tendon import steps
from tendon.config.compose import compose
from tendon.errors import ConfigError, DataError, TendonError


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A dataset of the built-in task, a checkpoint of a few steps and its bundle."""
    folder = tmp_path_factory.mktemp("api")
    dataset = steps.convert(source_uri="demo://reach?episodes=6&seed=1", store_uri=str(folder), dataset_name="demos")
    uri = dataset if isinstance(dataset, str) else dataset.dataset_uri
    keys = ["training.offline_steps=20", "training.save_freq=20", "training.num_threads=1", "device=cpu"]
    config = compose(["experiment=reach_bc", f"data.uri={uri}", *keys])
    made = steps.train(config=config, dataset_uri=uri, trial_uri=str(folder / "trial"))
    bundle = str(folder / "bundle")
    steps.export(checkpoint_uri=made.checkpoint_uri, bundle_uri=bundle)
    return {"dataset": uri, "trial": str(folder / "trial"), "checkpoint": made.checkpoint_uri, "bundle": bundle}


@pytest.fixture(scope="module")
def seen(trained: dict[str, str]) -> dict[str, np.ndarray]:
    """The first step of the first episode."""
    policy = tendon.load_policy(trained["bundle"])
    episode = tendon.open_dataset(trained["dataset"]).episode(0, list(policy.inputs))
    return {key: values[0] for key, values in episode.items()}


def test_importing_costs_nothing_and_names_are_documented() -> None:
    code = "import sys, tendon; print(sorted(n for n in sys.modules if n in ('numpy', 'torch', 'tendon.api')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    for name in tendon.__all__:
        assert getattr(tendon, name).__doc__, name
    with pytest.raises(AttributeError, match="load_polcy"):
        _ = tendon.load_polcy  # type: ignore[attr-defined]


def test_a_policy_acts_alike_from_every_address(trained: dict[str, str], seen: dict[str, np.ndarray]) -> None:
    addresses = [trained[name] for name in ("bundle", "checkpoint", "trial")]
    addresses += [f"{trained['checkpoint']}/pretrained_model", f"{trained['trial']}/checkpoints/last"]
    actions = [tendon.load_policy(uri).act(seen, seed=3) for uri in addresses]
    assert isinstance(actions[0], np.ndarray)
    assert actions[0].shape == (2,)
    assert actions[0].dtype == np.float64
    assert all(np.array_equal(actions[0], other) for other in actions[1:])


def test_a_champion_is_an_address(trained: dict[str, str], seen: dict[str, np.ndarray], tmp_path: Path) -> None:
    folder = tmp_path / "champions/best"
    folder.mkdir(parents=True)
    (folder / "Reach-2fc2b0e0.json").write_text(json.dumps({"bundle_uri": trained["bundle"]}))
    expected = tendon.load_policy(trained["bundle"]).act(seen, seed=0)
    for uri in ("champions/best", "champions/best/Reach-2fc2b0e0", "champions/best/Reach-2fc2b0e0.json"):
        assert np.array_equal(tendon.load_policy(str(tmp_path / uri)).act(seen, seed=0), expected)
    (folder / "Lift-0.json").write_text("{}")
    with pytest.raises(ConfigError, match="more than one champion"):
        tendon.load_policy(str(tmp_path / "champions/best"))
    with pytest.raises(ConfigError, match="no such champion"):
        tendon.load_policy(str(tmp_path / "champions/worst"))


def test_names_may_lack_their_prefix_and_other_values_do_no_harm(
    trained: dict[str, str], seen: dict[str, np.ndarray]
) -> None:
    policy = tendon.load_policy(trained["bundle"])
    bare = {key.removeprefix("observation."): value.tolist() for key, value in seen.items()}
    assert np.array_equal(policy.act(bare | {"battery": "full"}, seed=0), policy.act(seen, seed=0))
    assert "observation.agent_pos numbers [2]" in repr(policy)


def test_an_observation_that_does_not_fit_is_answered_by_its_key(
    trained: dict[str, str], seen: dict[str, np.ndarray]
) -> None:
    policy = tendon.load_policy(trained["bundle"])
    key = next(iter(policy.inputs))
    size = policy.inputs[key].shape[0]
    without = {name: value for name, value in seen.items() if name != key}
    cases = [
        (without, f"the observation has no {key}", f"expected numbers [{size}]; it has"),
        (seen | {key: np.zeros((1, size))}, f"{key} is not what", f"came float64 [1, {size}]"),
        (
            seen | {key: np.zeros(size + 1)},
            f"{key} is not what",
            f"expected numbers [{size}], came float64 [{size + 1}]",
        ),
        (seen | {key: ["a"] * size}, f"{key} is not what", "came <U1"),
        (seen | {key: np.full(size, np.nan)}, f"{key} is not what", "float64"),
    ]
    for observation, what, why in cases:
        with pytest.raises(DataError) as caught:
            policy.act(observation, seed=0)
        assert what in caught.value.problems[0].what
        assert why in caught.value.problems[0].why
        assert key in caught.value.problems[0].where


def test_nothing_is_no_policy(tmp_path: Path) -> None:
    with pytest.raises(TendonError):
        tendon.load_policy(str(tmp_path / "nowhere"))


def test_a_dataset_opens(trained: dict[str, str]) -> None:
    dataset = tendon.open_dataset(trained["dataset"])
    assert len(dataset) == 6
    assert f"{len(dataset)} episodes" in repr(dataset)
    ids = dataset.episodes()
    assert len(ids) == 6
    assert set(dataset.episodes("train")) < set(ids)
    first, same = dataset.episode(0), dataset.episode(ids[0])
    assert set(first) == set(dataset.features)
    assert all(np.array_equal(first[key], same[key]) for key in first)
    assert len({len(values) for values in first.values()}) == 1
    assert dataset.texts[first["task"][0]]
    assert dataset.statistics("all")["action"].count == sum(len(dataset.episode(i)["action"]) for i in range(6))
    windows = dataset.windows({"observation.agent_pos": (-1, 0), "action": range(4)}, batch_size=8, seed=1)
    batch, other = next(windows), next(windows)
    assert batch["observation.agent_pos"].shape == (8, 2, 2)
    assert batch["action"].shape == (8, 4, 2)
    assert not np.shares_memory(batch["action"], other["action"])
    with pytest.raises(ConfigError, match=r"no episode 'demo_77'"):
        dataset.episode("demo_77")
    with pytest.raises(ConfigError, match=r"no feature observation\.agent_poss"):
        dataset.episode(0, ["observation.agent_poss"])


def test_two_policies_are_compared(trained: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = tendon.compare(
        trained["bundle"], trained["checkpoint"], overrides=["eval.n_episodes=4", "eval.batch_size=2"]
    )
    assert found.verdict.decision == "keep"
    assert "already the champion" in str(found)
    assert len(found.first.rows) == 4


def test_a_run_from_demonstrations_to_a_verdict(tmp_path: Path) -> None:
    made = tendon.run(
        "demo://reach?episodes=6&seed=1",
        config="experiment=reach_bc training.offline_steps=20 training.save_freq=20 training.num_threads=1",
        store_uri=str(tmp_path / "store"),
        evaluate_episodes=4,
        evaluate_confirm_episodes=4,
    )
    assert Path(made.report_path).is_file()
