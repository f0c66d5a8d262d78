"""An evaluation as LeRobot reports it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tendon.cli import main
from tendon.config.schema import EnvConfig
from tendon.evaluate.lerobot_info import in_lerobots_words, write_eval_info
from tendon.evaluate.table import load_evaluation, summarise


@pytest.fixture
def table_uri(reach: EnvConfig, tmp_path: Path) -> str:
    """A table of four episodes; the simulator crashed in the second one, and the third one has a clip."""
    statuses = [("failure", 2.0, 0.5), ("crashed", 9.0, 9.0), ("success", 3.0, 1.0), ("failure", 1.0, 0.25)]
    rows = [
        {"seed": 100 + number, "status": status, "steps": 5, "sum_reward": total, "max_reward": peak, "video": ""}
        for number, (status, total, peak) in enumerate(statuses)
    ]
    rows[2]["video"] = "videos/seed_102.mp4"
    folder = tmp_path / "table"
    (folder / "videos").mkdir(parents=True)
    (folder / "videos/seed_102.mp4").write_bytes(b"clip")
    (folder / "episodes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    summary = summarise(rows, block="selection", env=reach, seeds=range(100, 104), wall_s=6.0)
    (folder / "summary.json").write_text(json.dumps(summary))
    return str(folder)


def test_eval_info_has_the_keys_of_both_generations(table_uri: str, tmp_path: Path) -> None:
    table = load_evaluation(table_uri)
    file = write_eval_info(table, tmp_path / "eval")
    info = json.loads(file.read_text())
    assert file.name == "eval_info.json"
    first = {"episode_ix": 0, "sum_reward": 2.0, "max_reward": 0.5, "success": False, "seed": 100}
    assert info["per_episode"][0] == first
    assert [(one["episode_ix"], one["seed"], one["success"]) for one in info["per_episode"]] == [
        (0, 100, False), (1, 102, True), (2, 103, False),
    ]  # fmt: skip
    means = {"avg_sum_reward": 2.0, "avg_max_reward": pytest.approx(1.75 / 3), "pc_success": pytest.approx(100 / 3)}
    assert info["aggregated"] == means | {"eval_s": 6.0, "eval_ep_s": 2.0}
    video = str(tmp_path / "eval/videos/eval_episode_1.mp4")
    assert info["video_paths"] == [video]
    assert Path(video).read_bytes() == b"clip"
    (task,) = info["per_task"]
    assert (task["task_group"], task["task_id"]) == ("reach", 0)
    assert task["metrics"] == {
        "sum_rewards": [2.0, 3.0, 1.0],
        "max_rewards": [0.5, 1.0, 0.25],
        "successes": [False, True, False],
        "video_paths": [video],
    }
    assert info["per_group"] == {"reach": means | {"n_episodes": 3, "video_paths": [video]}}
    assert info["overall"] == info["per_group"]["reach"] | {"eval_s": 6.0, "eval_ep_s": 2.0}
    assert info["crashed"] == 1
    assert in_lerobots_words(table) == "\N{N-ARY SUMMATION}rwrd:2.000 max_rwrd:0.583 success:33.3%"


def test_the_table_says_its_rule(table_uri: str) -> None:
    assert load_evaluation(table_uri).summary["success_rule"].startswith("any success in the episode")


def test_tendon_evaluate_writes_it_where_it_is_asked(tmp_path: Path, monkeypatch, capsys) -> None:
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    main(["demo-data", "env=reach", "--episodes", "4", "--format", "shards", "-o", "store"])
    (manifest,) = (tmp_path / "store").rglob("manifest.json")
    small = ["training.offline_steps=20", "policy.hidden_dims=[16]", "training.eval_freq=0"]
    assert main(["train", "policy=bc", "env=reach", f"data.uri={manifest.parent}", *small]) == 0
    checkpoint = str(next((tmp_path / "outputs/train").rglob("checkpoints/*20")))
    assert main(["export", "--checkpoint-uri", checkpoint, "--bundle-uri", "bundle"]) == 0
    capsys.readouterr()
    asked = ["evaluate", "--bundle-uri", "bundle", "eval.n_episodes=4", "eval.videos=1", "--eval-info", "eval"]
    assert main(asked) == 0
    info = json.loads((tmp_path / "eval/eval_info.json").read_text())
    assert len(info["per_episode"]) == info["overall"]["n_episodes"] == 4
    assert all(Path(video).stat().st_size > 100 for video in info["video_paths"])
    assert len(info["video_paths"]) >= 1
    said = capsys.readouterr().out
    assert "any success in the episode" in said
    assert "\N{N-ARY SUMMATION}rwrd:" in said
