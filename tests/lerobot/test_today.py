"""Today's LeRobot command line and its train_config.json: every key is taken, said or refused by name."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tendon.errors import ConfigError
from tendon.lerobot.command import Prepared, parse_line, prepare, train
from tests.lerobot.small_sets import write_set

CONFIGS = json.loads((Path(__file__).parents[1] / "golden/lerobot/train_configs.json").read_text())
NOW = datetime(2026, 1, 2).astimezone()
TINY = (
    "--policy.dim_model=16 --policy.n_heads=2 --policy.dim_feedforward=16 --policy.n_encoder_layers=1 --policy.latent_dim=4 "
    "--policy.n_vae_encoder_layers=1 --policy.pretrained_backbone_weights=null"
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("today") / "set"
    write_set(folder, "observation.image", (96, 96), 2, 10)
    return folder


def planned(words: str) -> Prepared:
    return prepare(parse_line(words.split()), NOW)


def problems(words: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        planned(words)
    return [f"{problem.what} | {problem.why} | {problem.fix}" for problem in caught.value.problems]


def test_the_command_line(data: Path, tmp_path: Path) -> None:
    words = (
        f"--policy.type=act --dataset.root={data} --dataset.repo_id=me/set --steps=2 --batch_size 4 --policy.device=cpu"
    )
    made = planned(f"{words} --output_dir={tmp_path / 'out'} --policy.push_to_hub=false")
    training = made.config.training
    assert (training.offline_steps, training.batch_size, training.save_freq, training.lr) == (2, 4, 20_000, 1e-5)
    assert (training.eval_freq, made.config.env.name, made.config.seed) == (0, "none", 1000)
    assert made.config.env.observation == ("observation.state", "observation.image")
    assert made.run_dir == str(tmp_path / "out")
    env = planned(f"{words} --env.type=pusht --eval.n_episodes=10 --eval.batch_size=10 --eval_freq=50")
    assert (env.config.env.name, env.config.training.eval_freq, env.config.eval.n_episodes) == ("pusht", 50, 10)


def test_it_is_trained_on_chosen_episodes(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = (
        f"--policy.type=act --dataset.root={data} --dataset.repo_id=me/set --steps=1 --batch_size=2 --policy.device=cpu"
    )
    run = train([*words.split(), *TINY.split(), "--dataset.episodes=[1]", "--output_dir=out"])[0]
    assert run.result.step == 1
    config = (tmp_path / "out/checkpoints/last/pretrained_model/config.yaml").read_text()
    assert "skip_episodes:" in config
    resumed = planned("--resume=true --output_dir=out")
    assert (resumed.config.training.offline_steps, resumed.run_dir) == (1, "out")
    folder = tmp_path / "out/checkpoints/last/pretrained_model"
    assert json.loads((folder / "policy.json").read_text())["policy"]["dim_model"] == 16


def test_a_run_on_s3_and_its_configuration_again(
    data: Path, s3_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sizes = {"mlp_dim": 8, "latent_dim": 4, "state_encoder_hidden_dim": 8, "image_encoder_hidden_dim": 4, "horizon": 2}
    words = [f"--policy.{key}={value}" for key, value in sizes.items()] + ["--policy.type=tdmpc", "--policy.device=cpu"]
    words += ["--dataset.repo_id=me/set", f"--dataset.root={data}", "--steps=1", "--batch_size=2"]
    run = train([*words, f"--output_dir={s3_uri}/run"])[0]
    assert run.result.checkpoint_uri == f"{s3_uri}/run/checkpoints/000001"
    again = f"--config-dir {s3_uri}/run/checkpoints/last/pretrained_model --config-name config training.offline_steps=5"
    made = planned(again)
    assert (made.config.training.offline_steps, vars(made.config.policy)["mlp_dim"]) == (5, 8)


@pytest.mark.parametrize("policy", ["act", "diffusion", "vqbet", "tdmpc"])
def test_lerobots_own_train_config_is_taken_whole(policy: str, data: Path, tmp_path: Path) -> None:
    tree: dict[str, Any] = json.loads(json.dumps(CONFIGS[policy]))
    tree["dataset"]["root"] = str(data)
    if policy == "act":
        tree["env"] = None  # the dataset is not Aloha's
    (tmp_path / "train_config.json").write_text(json.dumps(tree))
    made = planned(f"--config_path={tmp_path / 'train_config.json'} --steps=11")
    assert (made.config.policy.name, made.config.training.offline_steps) == (policy, 11)
    scheduler = "cosine" if policy in ("diffusion", "vqbet") else "constant"
    assert made.config.training.lr_scheduler == scheduler
    assert made.config.training.lr == tree["optimizer"]["lr"]
    assert "environment_normalization" in vars(made.config.policy)
    pictures = {"act": "imagenet", "diffusion": "imagenet", "vqbet": "identity", "tdmpc": "identity"}
    assert vars(made.config.policy)["image_normalization"] == pictures[policy]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--policy.type=pi0", "policy.type is pi0"),
        ("--policy.type=act --step=3", "the nearest is steps"),
        ("--policy.type=act --policy.chunk_sizes=3", "the nearest is policy.chunk_size"),
        ("--policy.type=act --env.type=xarm", "env=xarm_corrected"),
        ("--policy.type=act --env.type=maniskill", "LeRobot's that tendon has are"),
        ("--policy.type=act --dataset.image_transforms.enable=true", "no other change of pictures"),
        ("--policy.type=act --use_rabc=true", "tendon does not have it"),
        ("--policy.type=act --optimizer.type=sgd", "optimizer.type is sgd"),
        ("--policy.type=act --policy.n_obs_steps=2", "policy.n_obs_steps is 2"),
        ("--policy.type=act policy=act", "is no flag"),
        ("--policy.type=act --dataset.episodes=[7] --dataset.use_imagenet_stats=false", "use_imagenet_stats is false"),
    ],
)
def test_what_is_not_here_is_refused_by_name(data: Path, words: str, told: str) -> None:
    assert told in problems(f"--dataset.repo_id=me/set --dataset.root={data} {words}")[0]


def test_resuming_a_checkpoint_of_lerobots_is_refused_with_the_reason(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints/000020/pretrained_model"
    folder.mkdir(parents=True)
    tree = {**CONFIGS["act"], "env": None, "dataset": {**CONFIGS["act"]["dataset"], "root": str(data)}}
    (folder / "train_config.json").write_text(json.dumps(tree))
    (folder / "config.json").write_text(json.dumps(CONFIGS["act"]["policy"]))
    (text,) = problems(f"--config_path={folder / 'train_config.json'} --resume=true")
    assert "LeRobot's own" in text
    assert f"--policy.path={folder}" in text
    words = f"--policy.path={folder} --dataset.repo_id=me/set --dataset.root={data}"
    assert planned(words).config.policy.init_from == str(folder)
