"""The online phase: killed anywhere, a training ends with the bytes of the one left alone; what buffer and batches hold."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

from tendon.config.compose import compose
from tendon.errors import ConfigError
from tendon.loader.windows import Span, Windows
from tendon.runs.planner import run_key
from tendon.storage import open_store
from tendon.train.online.batches import OnlineBatches
from tendon.train.online.episodes import OnlineEpisode
from tendon.train.online.replay_buffer import ReplayBuffer, drawn_rows, episodes_of, tensors_of
from tendon.train.state.checkpoint import digests
from tests.train.online_trial import (
    EVERY,
    OFFLINE,
    STEPS,
    TRAINING,
    WindowLoader,
    config_of,
    run,
    run_killed,
    run_ranks,
)


def outcome(uri: Path) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """Digests of the last checkpoint's files, the buffer among them, and the metrics without clocks."""
    files = digests(open_store(f"{uri}/checkpoints/{STEPS:06d}"))
    lines = [json.loads(line) for line in (uri / "metrics.jsonl").read_text().splitlines()]
    timeless = [{key: value for key, value in line.items() if not key.endswith("_s")} for line in lines]
    return {name: sha for name, sha in files.items() if not name.endswith("training_step.json")}, timeless


def episode(number: int, num_steps: int) -> OnlineEpisode:
    """Its observations and actions count on: 10 number + t."""
    seen = (10 * number + np.arange(num_steps + 1, dtype=np.float32))[:, None]
    return OnlineEpisode(number, {"observation.state": seen, "action": -seen[:-1]}, num_steps, 1.0, success=True)


@pytest.mark.parametrize("async_", [pytest.param(False, marks=pytest.mark.long), True])
def test_killed_before_inside_and_after_rollouts_it_ends_with_the_same_bytes(tmp_path: Path, async_: bool) -> None:
    """Behind the first rollout, before a later one, and inside of a round; more moments are a row of ``make faults``."""
    asked = f"training.do_online_rollout_async={str(async_).lower()}"
    run(tmp_path / "whole", asked)
    expected = outcome(tmp_path / "whole")
    assert "training_state/online_buffer.safetensors" in expected[0]
    for moment in (("played", 1), ("rollout", 3), ("batch", OFFLINE + 4)):
        assert run_killed(tmp_path / "killed", moment, asked) == -signal.SIGKILL, moment
    run(tmp_path / "killed", asked)
    assert outcome(tmp_path / "killed") == expected


@pytest.mark.long
def test_two_processes_learn_what_one_does_online_too(tmp_path: Path) -> None:
    """The first plays, both draw their shares of the same rows."""
    even = ("training.batch_size=10", "training.offline_steps=2", "training.online_steps=5")
    run(tmp_path / "one", *even)
    assert run_ranks(tmp_path / "two", *even) == [0, 0]
    one, two = (
        load_file(tmp_path / f"{name}/checkpoints/000007/pretrained_model/model.safetensors") for name in ("one", "two")
    )
    for name, value in one.items():
        assert two[name].allclose(value, rtol=1e-3, atol=1e-4), name
    states = [
        json.loads((tmp_path / name / "checkpoints/000007/training_state/loader_state.json").read_text())
        for name in ("one", "two")
    ]
    played = [[(one["number"], one["num_steps"]) for one in state["online"]["buffer"]] for state in states]
    assert played[0] == played[1]


def test_without_an_offline_phase_and_without_rows_of_the_dataset(tmp_path: Path) -> None:
    result = run(tmp_path, "training.offline_steps=0", "training.online_sampling_ratio=1.0", "training.online_steps=4")
    assert result.step == 4
    state = json.loads((tmp_path / "checkpoints/000004/training_state/loader_state.json").read_text())
    assert state["dataset"] == {"next_batch": 0}
    numbers = [one["number"] for one in state["online"]["buffer"]]
    assert numbers == sorted(numbers)
    arrays = load_file(tmp_path / "checkpoints/000004/training_state/online_buffer.safetensors")
    for one in state["online"]["buffer"]:
        assert len(arrays[f"{one['number']}/action"]) == one["num_steps"]
        assert len(arrays[f"{one['number']}/next.reward"]) == one["num_steps"]
        seen = arrays[f"{one['number']}/observation.agent_pos"]
        assert len(seen) == one["num_steps"] + 1
        assert not seen[-1].equal(seen[-2])
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    trained = [line for line in lines if "train/loss" in line]
    assert all(line["train/is_online"] == 1.0 for line in trained)
    assert {"train/online_buffer_size", "train/online_rollout_s", "train/update_online_buffer_s"} <= trained[0].keys()
    assert [line["step"] for line in lines if "online/num_episodes" in line] == [0, EVERY]


def test_an_offline_training_goes_on_online(tmp_path: Path) -> None:
    run(tmp_path / "offline", "training.online_steps=0")
    from_there = f"training.resume_from={tmp_path}/offline/checkpoints/{OFFLINE:06d}"
    assert run(tmp_path / "online", from_there).step == STEPS
    again = f"training.resume_from={tmp_path}/online/checkpoints/{STEPS:06d}"
    assert run(tmp_path / "more", again, "training.online_steps=14").step == OFFLINE + 14


def test_the_oldest_whole_episodes_leave_when_the_buffer_is_full() -> None:
    buffer = ReplayBuffer(12)
    buffer.add(episode(number, 4) for number in range(2))
    assert (buffer.span, buffer.num_frames) == ((0, 2), 10)
    buffer.add([episode(2, 6)])
    assert (buffer.span, buffer.num_frames) == ((1, 3), 12)
    facts, arrays = [one.facts for one in buffer.episodes], tensors_of(buffer.episodes)
    back = episodes_of(json.loads(json.dumps(facts)), arrays)
    assert [one.facts for one in back] == facts
    assert all(
        np.array_equal(a.values["action"], b.values["action"]) for a, b in zip(back, buffer.episodes, strict=True)
    )


def test_windows_of_the_buffer_see_the_last_observation_and_no_action_behind_it() -> None:
    windows = Windows({"observation.state": Span((0, 1, 2)), "action": Span((0, 1))})
    draws = (np.arange(10) + 0.5) / 10
    rows = drawn_rows([episode(1, 4), episode(2, 6)], draws, windows, drop_last=0)
    assert rows["frame_index"].tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 4, 5]
    assert rows["episode_index"].tolist() == [-2] * 4 + [-3] * 6
    assert rows["observation.state"][3, :, 0].tolist() == [13, 14, 14]
    assert rows["observation.state_is_pad"][3].tolist() == [False, False, True]
    assert rows["action"][3, :, 0].tolist() == [-13, -13]
    assert rows["action_is_pad"][3].tolist() == [False, True]
    fewer = drawn_rows([episode(1, 4), episode(2, 6)], draws, windows, drop_last=3)
    assert set(zip(fewer["episode_index"].tolist(), fewer["frame_index"].tolist(), strict=True)) == {
        (-2, 0),
        *((-3, t) for t in range(3)),
    }


def test_no_row_of_the_dataset_is_left_out_or_taken_twice() -> None:
    """Three of five rows of each batch: the stream goes on where it was, also after a resume in the middle of a loader's batch."""
    config = config_of()
    windows = Windows({key: Span((0, 1)) for key in ("observation.agent_pos", "action")})

    def opened() -> OnlineBatches:
        return OnlineBatches(WindowLoader(1, TRAINING["batch_size"], windows), config, windows)

    def rows_of(batches: OnlineBatches) -> list[int]:
        return next(batches)["frame_index"][:3].tolist()

    whole = opened()
    played = [
        OnlineEpisode(n, {key: np.zeros((7, 2), np.float32) for key in windows.training}, 6, 0.0, success=False)
        for n in range(2)
    ]
    whole.buffer.add(played)
    for _ in range(OFFLINE):
        next(whole)
    taken, states = [], []
    for _ in range(7):
        states.append(whole.state)
        taken.append(rows_of(whole))
    assert [place for rows in taken for place in rows] == list(range(OFFLINE * 5, OFFLINE * 5 + 21))
    for number, state in enumerate(states):
        later = opened()
        later.load_state(state)
        later.load_episodes(state, whole.tensors)
        later.start_at(OFFLINE + number)
        assert rows_of(later) == taken[number]
        whole_again = whole.batch(OFFLINE + number)
        assert whole_again["frame_index"][:3].tolist() == taken[number]


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ("training.online_steps=5 policy=bc", "policy bc"),
        ("training.online_steps=5 training.online_buffer_capacity=null", "online_buffer_capacity null"),
        ("training.online_steps=5 training.online_steps_between_rollouts=null", "online_steps_between_rollouts null"),
        ("training.online_steps=5 training.online_buffer_capacity=60", "env.episode_length 60"),
        ("training.online_steps=5 training.online_buffer_seed_size=80000", "online_buffer_seed_size is 80000"),
        ("training.online_steps=5 training.online_rollout_batch_size=3", "online_rollout_batch_size is 3"),
        ("training.online_steps=5 training.online_sampling_ratio=0.001", "online_sampling_ratio is 0.001"),
        ("training.online_steps=5 training.online_sampling_ratio=0", "online_sampling_ratio is 0"),
        ("training.online_steps=5 training.num_gpus=2 training.batch_size=6", "3 online rows"),
        ("training.online_steps=5 training.sharding=fsdp training.num_gpus=2", "training.sharding and"),
        ("training.online_steps=5 training.overfit_batch=true", "training.overfit_batch and"),
        ("training.online_steps=5 env.name=none", "there is no environment"),
        ("training.online_sampling_ratio=0.7", "has no effect"),
        ("training.do_online_rollout_async=true", "has no effect"),
        ("training.offline_steps=0", "training.online_steps too"),
    ],
)
def test_what_does_not_go_together_is_refused_with_the_key(words: str, what: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose(["policy=tdmpc", "data.uri=x", *words.split()])
    assert any(what in problem.what and problem.fix for problem in caught.value.problems), str(caught.value)


def test_a_buffer_that_does_not_fit_is_refused_before_anything_is_opened(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="online buffer would take"):
        run(tmp_path, "training.online_buffer_capacity=2000000", "data.memory_gib=0.01")


def test_run_keys_know_of_the_phase_only_where_there_is_one() -> None:
    """The environment decides what is played; without an online phase no key of it counts."""
    plain = compose(["policy=tdmpc", "data.uri=x"])
    assert run_key(plain) == run_key(compose(["policy=tdmpc", "data.uri=x", "env.episode_length=50"]))
    assert run_key(plain) == run_key(compose(["policy=tdmpc", "data.uri=x", "++training.online_sampling_ratio=0.7"]))
    online = ["policy=tdmpc", "data.uri=x", "training.online_steps=5"]
    keys = {
        run_key(compose([*online, *more]))
        for more in ([], ["env.episode_length=50"], ["training.online_sampling_ratio=0.7"], ["env.fps=9"])
    }
    assert len({run_key(plain), *keys}) == 5
