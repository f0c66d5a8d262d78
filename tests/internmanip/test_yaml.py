"""The YAML of the page runs unchanged, every key of it is in the table, and each key that works has its effect shown here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tendon import cli, internmanip
from tendon.config.foreign.internmanip import read_manip, translate
from tendon.config.foreign.internmanip_keys import CLASSES, KEYS, SEED_HIDDEN, table
from tendon.config.yaml_text import dump_yaml
from tendon.data.dataset import open_dataset
from tendon.errors import ConfigError
from tendon.export.bundle import load_policy
from tests.internmanip.demo_set import CLOSES, genmanip_demo
from tests.internmanip.seed_page import HIDDEN, VISIBLE

ROOT = Path(__file__).resolve().parents[2]
SEED = {**HIDDEN, **VISIBLE}
TINY = [
    "policy=act_clip_tiny", "policy.dim_model=16", "policy.n_heads=2", "policy.dim_feedforward=16", "policy.latent_dim=2",
    "policy.chunk_size=4", "policy.n_action_steps=4", "policy.text_encoder=bytes", "policy.text_weights=''",
    "policy.tune_llm=true", "policy.resize_shape=[32,32]", "training.precision=fp32", "wandb.enable=false", "device=cpu",
    "data.threads=1", "training.num_threads=1",
]  # fmt: skip


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return genmanip_demo(tmp_path_factory.mktemp("sets") / "genmanip-demo")


def configured(demo: Path, tmp_path: Path, *overrides: str, policy: str = "act_clip", **changes: Any) -> Any:
    tree = {**SEED, "policy": policy, "dataset_path": str(demo), "output_dir": str(tmp_path / "out"), **changes}
    return internmanip.configure(tree, overrides=[*TINY[1:], *overrides] if policy == "act_clip" else overrides)


def test_every_key_of_the_page_is_in_one_of_the_first_two_classes() -> None:
    assert {name: KEYS[name].kind for name in SEED if KEYS[name].kind not in ("works", "accepted")} == {}
    assert set(SEED_HIDDEN) <= set(HIDDEN)
    assert {key.kind for key in KEYS.values()} == set(CLASSES)


def test_the_table_in_the_docs_is_the_tables() -> None:
    page = (ROOT / "docs/from-internmanip.md").read_text()
    shown = page.split("<!-- keys -->\n")[1].split("<!-- end -->")[0]
    assert shown == table(), "copy the table: python -m tests.internmanip.test_yaml"
    named = {line.split("`")[1] for line in shown.splitlines()[2:]}
    assert named == set(KEYS)


def test_the_page_trains_unchanged(demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every key at the page's value; a policy's name and the sizes of a small one are all that is added."""
    file = tmp_path / "act_genmanip.yaml"
    file.write_text(dump_yaml({**SEED, "policy": "act_clip", "dataset_path": str(demo)}))
    monkeypatch.chdir(tmp_path)
    steps = ["training.offline_steps=2", "training.save_freq=2", "training.log_freq=1", "training.batch_size=4"]
    assert cli.main(["train", "--config", str(file), "--store-uri", str(tmp_path / "out"), *TINY[1:], *steps]) == 0
    (trial,) = (tmp_path / "out/trials").iterdir()
    policy, info = load_policy(str(trial / "checkpoints/000002"))
    assert info.features["observation.state"].dim == 24
    assert info.features["action"].dim == 7
    assert sum(key.startswith("observation.images.") for key in info.features) == 3
    assert info.texts == ("put the cup away", "close the lid")
    config = policy.config
    assert config.normalization["action"] == [[0, 1, "binary"], [1, 4, "mean_std"], [4, 7, "mean_std"]]
    metadata = json.loads((trial / "experiment_cfg/metadata.json").read_text())["gr1"]
    norm = json.loads((trial / "experiment_cfg/norm_stats.json").read_text())["norm_stats"]
    statistics = metadata["statistics"]
    assert list(statistics["action"]) == ["gripper", "delta_ee_pos", "delta_ee_rot"]
    assert [x for key in statistics["action"] for x in statistics["action"][key]["mean"]] == norm["actions"]["mean"]
    assert [x for key in statistics["state"] for x in statistics["state"][key]["mean"]] == norm["state"]["mean"]
    assert metadata["modalities"]["video"]["ego_view"]["resolution"] == [48, 32]


WORKS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # what a YAML says, and which of our keys say it
    "batch_size": ({"batch_size": 5, "num_gpus": 2, "gradient_accumulation_steps": 3}, {"training.batch_size": 30}),
    "gradient_accumulation_steps": ({"gradient_accumulation_steps": 4}, {"training.gradient_accumulation_steps": 4}),
    "max_steps": ({"max_steps": 7}, {"training.offline_steps": 7, "training.save_freq": 7}),
    "save_steps": ({"save_steps": 3}, {"training.save_freq": 3}),
    "num_gpus": ({"num_gpus": 2}, {"training.num_gpus": 2, "training.batch_size": 32}),
    "resume_from_checkpoint": ({"resume_from_checkpoint": "s3://b/x"}, {"training.resume_from": "s3://b/x"}),
    "learning_rate": ({"learning_rate": 3e-5}, {"training.lr": 3e-5}),
    "weight_decay": ({"weight_decay": 0.1}, {"training.weight_decay": 0.1, "training.decay_norms_and_biases": False}),
    "warmup_ratio": ({"warmup_ratio": 0.2}, {"training.warmup_ratio": 0.2, "training.lr_warmup_steps": 0}),
    "schedule": ({"schedule": "linear"}, {"training.lr_scheduler": "linear", "training.lr_end_factor": 0.0}),
    "lr_scheduler_type": (
        {"lr_scheduler_type": "constant"},
        {"training.lr_scheduler": "constant", "training.warmup_ratio": 0.0},
    ),
    "optim": ({"optim": "adamw_torch_fused"}, {"training.optimizer": "adamw"}),
    "adam_beta1": ({"adam_beta1": 0.5}, {"training.adam_betas": [0.5, 0.999]}),
    "adam_beta2": ({"adam_beta2": 0.5}, {"training.adam_betas": [0.95, 0.5]}),
    "adam_epsilon": ({"adam_epsilon": 1e-6}, {"training.adam_eps": 1e-6}),
    "max_grad_norm": ({"max_grad_norm": 0.5}, {"training.grad_clip_norm": 0.5}),
    "tune_llm": ({"tune_llm": True}, {"policy.tune_llm": True}),
    "tune_visual": ({"tune_visual": False}, {"policy.tune_visual": False}),
    "tune_projector": ({"tune_projector": False}, {"policy.tune_projector": False}),
    "tune_diffusion_model": ({"tune_diffusion_model": False}, {"policy.tune_diffusion_model": False}),
    "lora_rank": ({"lora_rank": 8}, {"policy.lora_rank": 8, "policy.tune_llm": True}),
    "lora_alpha": ({"lora_rank": 8, "lora_alpha": 3}, {"policy.lora_alpha": 3}),
    "lora_dropout": ({"lora_rank": 8, "lora_dropout": 0.3}, {"policy.lora_dropout": 0.3}),
    "compute_dtype": ({"compute_dtype": "float32"}, {"training.precision": "fp32"}),
    "bf16": ({"bf16": False}, {"training.precision": "fp32"}),
    "gradient_checkpointing": ({"gradient_checkpointing": True}, {"policy.gradient_checkpointing": True}),
    "torch_compile_mode": ({"torch_compile_mode": "default"}, {"training.compile": True}),
    "dataloader_num_workers": ({"dataloader_num_workers": 3}, {"data.threads": 3}),
    "cache_dir": ({"cache_dir": "/cache"}, {"data.cache": "/cache"}),
    "save_strategy": ({"save_strategy": "no"}, {"training.save_checkpoint": False, "save.every_n_epochs": 0}),
    "save_total_limit": ({"save_total_limit": 3}, {"training.keep_checkpoints": 3}),
    "logging_steps": ({"logging_steps": 25.0}, {"training.log_freq": 25}),
    "report_to": ({"report_to": "tensorboard"}, {"track.tensorboard": True, "wandb.enable": False}),
    "seed": ({"seed": 7}, {"seed": 7}),
}
SHOWN_ELSEWHERE = {  # by the tests below
    "policy", "model_type", "dataset_path", "data_config", "output_dir", "base_model_path", "use_pretrained_model", "augsteps",
    "embodiment_tag", "skip_unlabeled", "balance_dataset_weights", "balance_trajectory_weights",
}  # fmt: skip


@pytest.mark.parametrize("name", list(WORKS))
def test_a_key_says_one_of_ours(name: str) -> None:
    given, expected = WORKS[name]
    usual = translate({"policy": "act_clip", "dataset_path": "x"}).overrides
    made = translate({"policy": "act_clip", "dataset_path": "x", **given}).overrides
    assert {key: made[key] for key in expected} == expected
    assert name == "optim" or any(usual.get(key) != value for key, value in expected.items()), "no effect"


def test_each_key_that_works_is_tried() -> None:
    assert set(WORKS) | SHOWN_ELSEWHERE == {name for name, key in KEYS.items() if key.kind == "works"}


def test_accepted_keys_are_noted_and_refused_ones_name_the_nearest() -> None:
    run = translate({"policy": "dp_clip", "dataset_path": "x", "ddp_bucket_cap_mb": 25, "video_backend": "decord"})
    assert [note.partition("=")[0] for note in run.notes] == ["video_backend", "ddp_bucket_cap_mb"]
    wrong = {
        "deepspeed": "zero.json",
        "learning_rte": 1e-4,
        "video_backend": "decrod",
        "max_steps": 1.5,
        "tune_llm": "yes",
    }
    with pytest.raises(ConfigError) as error:
        translate({"policy": "dp_clip", "dataset_path": "x", **wrong})
    fixes = {
        problem.what.split()[0 if "unknown" not in problem.what else 2]: problem.fix for problem in error.value.problems
    }
    assert fixes["learning_rte"] == "learning_rate (the nearest)"
    assert fixes["video_backend"] == "video_backend: decord"
    assert "sharding=fsdp" in fixes["deepspeed"]
    with pytest.raises(ConfigError) as error:
        translate({"policy": "dp_clip", "dataset_path": "x", "max_steps": 1.5, "tune_llm": "yes", "batch_size": 0})
    assert {problem.what.split()[0] for problem in error.value.problems} == {"max_steps", "tune_llm", "batch_size"}


def test_a_problem_has_the_line_of_its_file(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("policy: act_clip\ndataset_path: d\nlearning_rate: fast\n")
    with pytest.raises(ConfigError) as error:
        read_manip(file)
    assert error.value.problems[0].where == f"{file}:3"
    file.write_text("dataset_path: d\n")
    with pytest.raises(ConfigError, match="policy is missing"):
        read_manip(file)
    assert translate({"model_type": "pi0", "dataset_path": "x"}).policy == "pi0"
    assert translate({"policy": "dp_clip", "model_type": "pi0", "dataset_path": "x"}).policy == "dp_clip"


def test_frames_near_a_gripper_change_come_more_often(demo: Path, tmp_path: Path) -> None:
    from tendon.loader.configured import changed_windows, configured_loader

    seen = {}
    for times in (0, 4):
        made = configured(demo, tmp_path, augsteps=times).config
        windows = changed_windows(load_windows(made), made.data)
        loader = configured_loader(made.data.uri, made.data.split, windows, 54, 0, made.data)
        counts: dict[tuple[int, int], int] = {}
        for _ in range(loader.num_windows // 54 + 1):
            batch = next(loader)
            for pair in zip(batch["episode_index"].tolist(), batch["frame_index"].tolist(), strict=True):
                counts[pair] = counts.get(pair, 0) + 1
        seen[times] = (loader.num_windows, counts)
        loader.close()
    assert seen[0][0] == 54
    assert seen[4][0] == 54 + 3 * 2 * 4  # two frames have a change inside of three, in each of three episodes
    near = [count for (_, frame), count in seen[4][1].items() if frame in (CLOSES - 1, CLOSES)]
    far = [count for (_, frame), count in seen[4][1].items() if frame not in (CLOSES - 1, CLOSES)]
    assert min(near) > 2 * max(far)


def load_windows(config: Any) -> Any:
    from tendon.train.loop.data_feeds import find_features, stored_windows
    from tendon.train.loop.engine import select_features

    return stored_windows(config.policy.windows(select_features(config, {}, find_features(config.data.uri))))


def test_a_list_is_a_mixture_with_merged_statistics(demo: Path, tmp_path: Path) -> None:
    other = genmanip_demo(tmp_path / "second", seed=9)
    both = [str(demo), str(other)]
    made = configured(demo, tmp_path, dataset_path=both, embodiment_tag="new_embodiment")
    assert len(made.config.data.mixture) == 1
    assert made.config.data.mixture_weights == ()
    assert configured(demo, tmp_path, dataset_path=both, balance_dataset_weights=False).config.data.mixture_weights == (
        1,
        1,
    )
    internmanip.write_statistics(made.config, made.trial_uri, made.embodiment)
    metadata = json.loads((Path(made.trial_uri) / "experiment_cfg/metadata.json").read_text())
    merged = metadata["new_embodiment"]["statistics"]["action"]["delta_ee_pos"]
    rows = torch.cat([torch.from_numpy(actions_of(uri)) for uri in (made.config.data.uri, *made.config.data.mixture)])
    torch.testing.assert_close(torch.tensor(merged["mean"]).double(), rows[:, 1:4].mean(0), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(
        torch.tensor(merged["std"]).double(), rows[:, 1:4].std(0, unbiased=False), atol=1e-6, rtol=1e-6
    )
    assert merged["max"] == rows[:, 1:4].amax(0).tolist()


def actions_of(uri: str) -> Any:
    import numpy as np

    dataset = open_dataset(uri)
    return np.concatenate([values["action"] for values in dataset.lowdims(dataset.episodes("train"))]).astype(
        np.float64
    )


def test_episodes_without_a_text_and_episode_weights(tmp_path: Path) -> None:
    unlabeled = genmanip_demo(tmp_path / "set", texts=("wipe the table", ""))
    made = configured(unlabeled, tmp_path, skip_unlabeled=True).config
    assert len(made.data.skip_episodes) == 1
    kept = configured(unlabeled, tmp_path).config
    assert (kept.data.skip_episodes, kept.data.episode_weights) == ((), {})
    even = configured(unlabeled, tmp_path, balance_trajectory_weights=False).config.data.episode_weights
    assert sorted(round(weight * length) for weight, length in zip(even.values(), (18, 25, 11), strict=True)) == [
        18,
        18,
        18,
    ]
    nothing = genmanip_demo(tmp_path / "none", texts=("", ""))
    with pytest.raises(Exception, match="no episode has a text"):
        configured(nothing, tmp_path, skip_unlabeled=True)


def test_weights_to_begin_with(demo: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="base_model_path is"):
        configured(demo, tmp_path, use_pretrained_model=True)
    with pytest.raises(ConfigError, match="there are no weights"):
        configured(demo, tmp_path, use_pretrained_model=True, base_model_path="lerobot/pi0")
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle/policy.json").write_text("{}")
    save_file({"x": torch.zeros(1)}, tmp_path / "bundle/model.safetensors")
    begun = configured(demo, tmp_path, use_pretrained_model=True, base_model_path=str(tmp_path / "bundle")).config
    assert begun.policy.init_from == str(tmp_path / "bundle")
    idle = translate({"policy": "pi0", "dataset_path": "x", "base_model_path": "lerobot/pi0"})
    assert idle.base_model_path == ""
    assert any("use_pretrained_model is false" in note for note in idle.notes)


@pytest.mark.parametrize("policy", ["pi0", "pi0fast", "gr00t_n1", "gr00t_n1_5", "dp_clip"])
def test_the_page_configures_every_policy(policy: str, demo: Path, tmp_path: Path) -> None:
    """Full sizes; only the configuration is made."""
    made = configured(demo, tmp_path, policy=policy)
    config: Any = made.config
    assert (config.policy.name, config.training.offline_steps, config.training.precision) == (policy, 10_000, "bf16")
    assert made.trial_uri.startswith(str(tmp_path / "out"))
    from tendon.train.loop.data_feeds import find_features
    from tendon.train.loop.engine import select_features

    assert (config.env.name, config.env.observation[-1]) == ("genmanip", "task")
    reads = config.policy.reads(select_features(config, {}, find_features(config.data.uri)))
    cameras = [f"observation.images.{view}" for view in ("ego_view", "base_view", "base_2_view")]
    assert [key for key in reads if "images" in key] == cameras
    if policy == "dp_clip":
        assert [key for key in reads if "images" not in key] == ["observation.state", "task"]
        return
    assert [key for key in reads if "images" not in key] == [
        *(f"observation.{key}" for key in ("joints", "gripper", "joints_vel", "gripper_vel", "ee_pos", "ee_rot")),
        "task",
    ]
    assert config.env.action == {"gripper": 1, "delta_ee_pos": 3, "delta_ee_rot": 3}
    schema = open_dataset(config.data.uri).schema
    assert [each.key for each in schema.columns if each.kind == "action"] == [
        f"action.{key}" for key in ("gripper", "delta_ee_pos", "delta_ee_rot")
    ]
    assert config.policy.normalization["action.gripper"] == "binary"
    assert config.data.repeat_changes == "action.gripper"
    if policy.startswith("gr00t"):
        assert config.policy.embodiment_tag == "gr1"


if __name__ == "__main__":
    page = ROOT / "docs/from-internmanip.md"
    before, rest = page.read_text().split("<!-- keys -->\n")
    page.write_text(before + "<!-- keys -->\n" + table() + "<!-- end -->" + rest.split("<!-- end -->")[1])
