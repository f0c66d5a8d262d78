"""The page of LeRobot's training (seed 002) is a test: its commands in their order, at small sizes, and what it says of them."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
import torch

from tendon import cli
from tendon.config.compose import compose, to_dict
from tendon.config.schema import TrainConfig
from tendon.errors import ConfigError
from tendon.lerobot.command import Prepared, parse_line, parse_overrides, prepare, train
from tendon.lerobot.page import read_page
from tendon.logs import Format
from tendon.train.loop.epoch_size import EpochSize
from tendon.train.watch.metrics_log import eval_line, train_line
from tests.lerobot.small_sets import INSERTION, PUSHT, TRANSFER, write_numbers, write_set, write_sets

pytestmark = pytest.mark.chain
NOW = datetime(2024, 8, 14, 13, 35, 12).astimezone()
STEPS = (
    "training.offline_steps=2 training.batch_size=4 training.log_freq=1 training.eval_freq=-1 training.num_threads=1"
)
DIFFUSION = (
    f"{STEPS} policy.down_dims=[8,16] policy.n_groups=4 policy.diffusion_step_embed_dim=8 training.lr_warmup_steps=1"
)
ACT = (
    f"{STEPS} policy.dim_model=16 policy.n_heads=2 policy.dim_feedforward=16 policy.n_encoder_layers=1 policy.latent_dim=4 "
    "policy.n_vae_encoder_layers=1 policy.pretrained_backbone_weights=null"
)
LONG = (
    "hydra.run.dir=outputs/train/act_aloha_sim_transfer_cube_human device=cuda env=aloha env.task=AlohaTransferCube-v0 "
    f"dataset_repo_id={TRANSFER} policy=act training.eval_freq=10000 training.log_freq=250 training.offline_steps=100000 "
    "training.save_model=true training.save_freq=25000 eval.n_episodes=50 eval.batch_size=50 wandb.enable=false"
)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the three datasets of the page under ``data``."""
    folder, before = tmp_path_factory.mktemp("page"), Path.cwd()
    write_sets(folder / "data")
    os.chdir(folder)
    yield folder
    os.chdir(before)


def planned(words: str) -> Prepared:
    return prepare(parse_line(words.split()), NOW)


def composed(words: str) -> TrainConfig:
    """Without a look at whether the simulator is installed."""
    request = read_page(parse_overrides(words.split()))
    assert not request.problems
    return compose([*request.words(), "data.uri=x"])


def problems(words: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        planned(words)
    assert all(problem.fix for problem in caught.value.problems)
    return [f"{problem.what} | {problem.why} | {problem.fix}" for problem in caught.value.problems]


def test_without_a_word_it_is_diffusion_on_pusht(here: Path) -> None:
    """`train.py` and `train.py policy=diffusion env=pusht` are the same training, with the page's own defaults."""
    alone, explicit = planned(""), planned("policy=diffusion env=pusht")
    assert alone.config == explicit.config
    config = alone.config
    assert (config.policy.name, config.env.name, config.env.task) == ("diffusion", "pusht", "PushT-v0")
    assert [one.repo_id for one in alone.datasets] == [PUSHT]
    training = config.training
    assert (training.offline_steps, training.batch_size, training.lr_warmup_steps) == (200_000, 64, 500)
    assert (training.eval_freq, training.save_freq, training.log_freq) == (25_000, 25_000, 200)
    assert (config.seed, config.eval.n_episodes) == (100_000, 50)
    assert vars(config.policy)["statistics"]["observation.state"]["min"] == [13.456424, 32.938293]
    assert alone.run_dir == "outputs/train/2024-08-14/13-35-12_pusht_diffusion_default"


def test_the_pages_own_log_lines_are_made_from_their_numbers() -> None:
    """Level, time, last 15 letters of the place, then the numbers; of the page's runs on 25,650 frames of 206 episodes."""
    pusht = EpochSize(num_frames=25_650, num_episodes=206, batch_size=64)
    trained = {"loss": 1.112, "grad_norm": 15.387, "lr": 2e-7, "update_s": 1.738, "dataloading_s": 4.774}
    played = {"avg_sum_reward": 20.693, "pc_success": 0.0, "eval_s": 120.266}
    for when, line, text, expected in (
        (
            NOW,
            192,
            train_line(0, pusht, trained),
            "INFO 2024-08-14 13:35:12 ts/train.py:192 step:0 smpl:64 ep:1 epch:0.00 loss:1.112 grdn:15.387 lr:2.0e-07 updt_s:1.738 "
            "data_s:4.774",
        ),
        (
            datetime(2024, 8, 14, 13, 38, 45).astimezone(),
            226,
            eval_line(100, pusht, played),
            "INFO 2024-08-14 13:38:45 ts/train.py:226 step:100 smpl:6K ep:52 epch:0.25 "
            "\N{N-ARY SUMMATION}rwrd:20.693 success:0.0% eval_s:120.266",
        ),
    ):
        record = logging.LogRecord("train", logging.INFO, "lerobot/scripts/train.py", line, text, (), None)
        record.created = when.timestamp()
        assert Format().format(record) == expected


def test_act_on_alohas_two_tasks(here: Path) -> None:
    insertion = planned("policy=act env=aloha")
    assert [one.repo_id for one in insertion.datasets] == [INSERTION]
    assert insertion.config.env.task == "AlohaInsertion-v0"
    training = insertion.config.training
    assert (training.offline_steps, training.batch_size, training.lr) == (100_000, 8, 1e-5)
    transfer = planned(f"policy=act dataset_repo_id={TRANSFER} env=aloha env.task=AlohaTransferCube-v0")
    assert [one.repo_id for one in transfer.datasets] == [TRANSFER]
    assert transfer.config.env.task == "AlohaTransferCube-v0"
    assert transfer.config.env.name == "aloha"


def test_the_long_command_word_by_word(here: Path) -> None:
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="there is no device cuda"):
            planned(LONG)
    made = planned(LONG.replace("device=cuda", "device=cpu"))
    training = made.config.training
    assert (training.eval_freq, training.log_freq, training.save_freq) == (10_000, 250, 25_000)
    assert training.save_checkpoint
    assert made.run_dir == "outputs/train/act_aloha_sim_transfer_cube_human"
    notes = "\n".join(made.request.notes)
    assert "training.save_model was renamed by LeRobot later: training.save_checkpoint=true is taken" in notes
    assert made.config.eval.batch_size <= 50
    assert not made.config.wandb.enable


def test_the_page_is_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its first command, then the saved configuration again, then two values of a key as a sweep; with the page's lines."""
    assert cli.main(["lerobot", "train", *DIFFUSION.split(), "hydra.run.dir=outputs/train/my_experiment"]) == 0
    captured = capsys.readouterr()
    lines = [
        line for line in captured.err.splitlines() if re.match(r"INFO \d{4}-\d\d-\d\d \d\d:\d\d:\d\d .{15} ", line)
    ]
    told = [line[25 + 16 :] for line in lines]
    order = [
        *(
            "dataset_repo_id=lerobot/pusht: found in the root: data/lerobot/pusht",
            "cfg:",
            "Logs will be saved locally.",
        ),
        *("Output dir: outputs/train/my_experiment", "cfg.env.task=PushT-v0", "cfg.training.offline_steps=2 (2)"),
        *(
            "offline_dataset.num_frames=",
            "offline_dataset.num_episodes=2",
            "num_learnable_params=",
            "num_total_params=",
        ),
        *("Start offline training on a fixed dataset", "step:0 smpl:4 ", "step:1 smpl:8 "),
        *("Checkpoint policy after step 2", "Resume training", "End of training"),
    ]
    places = [next(i for i, line in enumerate(told) if line.startswith(beginning)) for beginning in order]
    assert places == sorted(places), told
    number = r"\d+\.\d{3}"
    pattern = rf"step:0 smpl:4 ep:\d+ epch:\d\.\d\d loss:{number} grdn:{number} lr:\d\.\de[-+]\d\d updt_s:{number} data_s:{number}"
    assert re.fullmatch(pattern, told[places[order.index("step:0 smpl:4 ")]])

    last = here / "outputs/train/my_experiment/checkpoints/last"
    assert (last / "pretrained_model/config.yaml").is_file()
    again = "--config-dir outputs/train/my_experiment/checkpoints/last/pretrained_model --config-name config"
    same, longer = planned(again), planned(f"{again} training.offline_steps=200000")
    assert same.config.policy == longer.config.policy
    assert (same.config.training.offline_steps, longer.config.training.offline_steps) == (2, 200_000)
    assert same.config.data.uri.startswith("outputs/train/datasets/pusht/")
    runs = train([*again.split(), "-m", "seed=1,2", "training.offline_steps=1", "hydra.sweep.dir=sweep"])
    assert [one.run_dir for one in runs] == ["sweep/0", "sweep/1"]
    assert [one.overrides for one in runs] == [("seed=1",), ("seed=2",)]
    assert len({one.result.weights_sha256 for one in runs}) == 2
    assert "cannot be chosen" in problems(f"{again} policy=act")[0]

    resumed = planned("resume=true hydra.run.dir=outputs/train/my_experiment training.batch_size=9")
    assert resumed.config.training.batch_size == 4
    assert "nothing to resume" in problems("resume=true hydra.run.dir=outputs/train/other")[0]


def test_act_is_trained(here: Path) -> None:
    words = f"policy=act env=aloha env.task=AlohaTransferCube-v0 dataset_repo_id={TRANSFER} {ACT} hydra.run.dir=act"
    run = train(words.split())[0]
    assert run.result.step == 2
    described = json.loads((here / "act/checkpoints/000002/pretrained_model/policy.json").read_text())
    assert described["features"]["observation.images.top"]["shape"] == [32, 40, 3]


def test_act_on_pusht_is_answered_by_a_table_of_what_is_missing_where(here: Path) -> None:
    """The last paragraph of the page."""
    (text,) = problems(f"policy=act env=pusht dataset_repo_id={PUSHT}")
    rows = {row.split()[0]: row for row in text.splitlines() if row.startswith(("observation", "action"))}
    assert re.match(r"observation.images.top +reads 480 x 640 x 3 +MISSING +MISSING", rows["observation.images.top"])
    assert re.match(r"observation.state +reads 14 +2, MISSING 14 +agent_pos", rows["observation.state"])
    assert re.match(r"action +writes 14 +2, MISSING 14 +what it takes", rows["action"])
    assert re.match(r"observation.image +- +96 x 96 x 3 +top_image", rows["observation.image"])
    assert "policy=act_pusht" in text
    made = planned(f"policy=act_pusht env=pusht dataset_repo_id={PUSHT}")
    assert made.config.policy.name == "act"
    shapes = "policy.input_shapes={observation.image:[3,96,96],observation.state:[2]} policy.output_shapes={action:[2]}"
    assert planned(f"policy=act env=pusht dataset_repo_id={PUSHT} {shapes}").config.policy.name == "act"


def test_xarm_and_real_robots_are_answered_with_the_reason(here: Path) -> None:
    (text,) = problems("policy=tdmpc env=xarm")
    assert "cannot be solved" in text
    assert "env=xarm_corrected" in text
    for words in ("policy=act_koch_real", "policy=act env=koch_real", "policy=act env=dora_aloha_real"):
        assert "a robot" in problems(words)[0]
    assert "unknown" not in problems("policy=pi0 env=pusht")[0]
    (missing,) = problems("policy=tdmpc env=xarm_corrected")  # our own name of it
    assert "demo-data env=xarm_corrected" in missing


def test_the_other_policies_on_pusht(here: Path) -> None:
    vqbet = planned("policy=vqbet env=pusht eval.batch_size=1")
    assert (vqbet.config.training.offline_steps, vqbet.config.eval.batch_size) == (250_000, 1)
    assert vars(vqbet.config.policy)["statistics"]["action"]["max"] == [511.0, 511.0]
    assert (
        vars(planned("policy=vqbet policy.bet_softmax_temperature=0.5").config.policy)["bet_softmax_temperature"] == 0.5
    )
    (table,) = problems(f"policy=tdmpc env=pusht dataset_repo_id={PUSHT}")
    assert re.search(r"observation.state +reads 4 +2, MISSING 4", table)
    (keypoints,) = problems(f"policy=diffusion_pusht_keypoints dataset_repo_id={PUSHT}")
    assert re.search(r"observation.environment_state +reads 16 +MISSING +environment_state", keypoints)


def test_tdmpc_learns_online_as_its_files_say(here: Path) -> None:
    """xarm_lift_medium and PushT's key points; keys that are typed win, and mean nothing where there is no such phase."""
    training = composed("policy=tdmpc env=xarm_corrected").training
    assert (training.offline_steps, training.online_steps, training.online_steps_between_rollouts) == (
        50_000,
        50_000,
        50,
    )
    assert (training.online_rollout_n_episodes, training.online_sampling_ratio) == (1, 0.5)
    assert (training.online_env_seed, training.online_buffer_capacity) == (10_000, 80_000)
    typed = "training.online_steps=7 training.online_sampling_ratio=0.75 training.do_online_rollout_async=true"
    training = composed(f"policy=tdmpc_pusht_keypoints env=pusht {typed}").training
    assert (training.offline_steps, training.online_steps, training.online_sampling_ratio) == (0, 7, 0.75)
    assert (training.online_rollout_n_episodes, training.online_rollout_batch_size) == (10, 10)
    assert training.do_online_rollout_async
    made = planned(f"policy=diffusion training.online_env_seed=4 dataset_repo_id={PUSHT}")
    assert "training.online_env_seed: no effect, training.online_steps is 0" in made.request.notes
    assert "it imitates" in "".join(problems(f"policy=diffusion training.online_steps=5 dataset_repo_id={PUSHT}"))


def test_an_online_training_is_run_resumed_and_run_again_from_its_configuration(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_numbers(here / "data/me/reach", {"observation.agent_pos": 2, "observation.target_pos": 2, "action": 2}, 10)
    words = (
        "policy=tdmpc env=reach dataset_repo_id=me/reach device=cpu training.eval_freq=-1 training.num_threads=1 "
        "training.offline_steps=1 training.online_steps=2 training.online_steps_between_rollouts=1 training.batch_size=4 "
        "training.log_freq=1 env.episode_length=4 hydra.run.dir=online policy.latent_dim=6 policy.mlp_dim=8 "
        "policy.cem_iterations=1 policy.n_gaussian_samples=6 policy.n_pi_samples=2 policy.n_elites=3 "
        "policy.input_shapes={observation.agent_pos:[2],observation.target_pos:[2]} policy.output_shapes={action:[2]}"
    )
    assert cli.main(["lerobot", "train", *words.split()]) == 0
    told = capsys.readouterr().err
    order = [
        "cfg.training.online_steps=2\n",
        "Start offline training",
        "Start online training by interacting",
        "step:2 smpl:12 ",
    ]
    assert [told.index(one) for one in order] == sorted(told.index(one) for one in order)
    again = planned(
        "--config-dir online/checkpoints/last/pretrained_model --config-name config training.online_steps=9"
    )
    assert (again.config.training.offline_steps, again.config.training.online_steps) == (1, 9)
    resumed = planned("resume=true hydra.run.dir=online training.online_sampling_ratio=0.9")
    assert resumed.config.training.online_sampling_ratio == 0.5


def test_help_says_how(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["lerobot", "train", "--help"]) == 0
    assert "docs/from-lerobot.md" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("training.offline_step=5", "the nearest is training.offline_steps"),
        ("policy.horizn=5", "the nearest is policy.horizon"),
        ("defaults.policy=act", "policy=act"),
        ("training.batch_size=8,16", "-m training.batch_size=8,16"),
        ("env.task=AlohaCube-v0", "env.task=PushT-v0"),
        ("training.online_sampling_ratoi=0.5", "the nearest is training.online_sampling_ratio"),
        ("hydra.run.dirr=out", "the nearest is hydra.run.dir"),
        ("hydra.sweep.dri=out", "the nearest is hydra.sweep.dir"),
        ("env.gym.obs_typ=state", "the nearest is env.gym.obs_type"),
        ("training.image_transforms.enabel=true", "the nearest is training.image_transforms.enable"),
        ("use_amp=maybe", "it is a switch: true or false"),
        ("training.image_transforms.enable=true", "training.image_transforms.enable=false"),
        ("eval.n_episodes=10", "eval.batch_size=10"),
        ("dataset_repo_id=lerobot/nothing", "nothing is fetched from the hub here"),
        ("training.delta_timestamps.action='[i / ${fps} for i in range(99)]'", "change policy.horizon"),
        ("training.delta_timestamps.action=\"[print(1)]\"", "print is not called here"),
        ("policy.use_group_norm", "is no override"),
        ("eval.batch_size=many", "invalid literal"),
        ("dataset_repo_id=[]", "there is nothing to learn from"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_before_anything_is_made(here: Path, words: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        prepare(parse_line([words]), NOW)
    problem = caught.value.problems[0]
    assert told in f"{problem.what} | {problem.why} | {problem.fix}"


def test_delta_timestamps_of_the_policys_own_file_are_taken(here: Path) -> None:
    text = "[i / ${fps} for i in range(1 - ${policy.n_obs_steps}, 1 - ${policy.n_obs_steps} + ${policy.horizon})]"
    words = [f"training.delta_timestamps.action='{text}'", "training.delta_timestamps.observation.image=[-0.1,0.0]"]
    assert prepare(parse_line(words), NOW).config.policy.name == "diffusion"


def test_keys_of_the_page_and_what_they_become(here: Path) -> None:
    amp = planned("use_amp=true device=cpu").config
    assert amp.training.precision == "bf16"
    stats = "override_dataset_stats.observation.image.mean=[[[0.485]],[[0.456]],[[0.406]]] "
    stats += "override_dataset_stats.observation.image.std=[[[0.229]],[[0.224]],[[0.225]]]"
    assert vars(planned(stats).config.policy)["image_normalization"] == "imagenet"
    other = planned(
        "override_dataset_stats.observation.state.min=[0,0] override_dataset_stats.observation.state.max=[9,9]"
    )
    assert vars(other.config.policy)["statistics"]["observation.state"] == {"min": [0.0, 0.0], "max": [9.0, 9.0]}
    keys = planned("training.num_workers=3 training.drop_n_last_frames=5 training.adam_weight_decay=0.5 seed=3").config
    assert (keys.data.threads, keys.data.drop_last, keys.training.weight_decay, keys.seed) == (3, 5, 0.5, 3)


def test_a_configuration_that_lerobot_saved_is_run(here: Path, tmp_path: Path) -> None:
    """config.yaml of a Hydra-era checkpoint: the whole merged configuration, without groups."""
    text = f"""
resume: false
device: cpu
use_amp: false
seed: 100000
dataset_repo_id: {PUSHT}
video_backend: pyav
training:
  offline_steps: 7
  num_workers: 4
  batch_size: 4
  eval_freq: -1
  log_freq: 200
  save_checkpoint: true
  save_freq: 25000
  online_steps: 0
  online_rollout_n_episodes: 1
  online_sampling_ratio: 0.5
  image_transforms: {{enable: false, max_num_transforms: 3, brightness: {{weight: 1, min_max: [0.8, 1.2]}}}}
  grad_clip_norm: 10
  lr: 1e-4
  lr_scheduler: cosine
  lr_warmup_steps: 3
  adam_betas: [0.95, 0.999]
  adam_eps: 1.0e-8
  adam_weight_decay: 1.0e-6
  delta_timestamps:
    observation.image: [-0.1, 0.0]
    observation.state: [-0.1, 0.0]
    action: [-0.1, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4]
  drop_n_last_frames: 7
eval: {{n_episodes: 50, batch_size: 50, use_async_envs: false}}
wandb: {{enable: false, disable_artifact: false, project: lerobot, notes: ''}}
fps: 10
env:
  name: pusht
  task: PushT-v0
  image_size: 96
  state_dim: 2
  action_dim: 2
  fps: ${{fps}}
  episode_length: 300
  gym: {{obs_type: pixels_agent_pos, render_mode: rgb_array, visualization_width: 384, visualization_height: 384}}
override_dataset_stats:
  observation.image: {{mean: [[[0.5]], [[0.5]], [[0.5]]], std: [[[0.5]], [[0.5]], [[0.5]]]}}
  action: {{min: [12.0, 25.0], max: [511.0, 511.0]}}
policy:
  name: diffusion
  n_obs_steps: 2
  horizon: 16
  n_action_steps: 8
  input_shapes: {{observation.image: [3, 96, 96], observation.state: [2]}}
  output_shapes: {{action: [2]}}
  input_normalization_modes: {{observation.image: mean_std, observation.state: min_max}}
  output_normalization_modes: {{action: min_max}}
  vision_backbone: resnet18
  crop_shape: [84, 84]
  crop_is_random: true
  pretrained_backbone_weights: null
  use_group_norm: true
  down_dims: [8, 16]
  num_inference_steps: null
  do_mask_loss_for_padding: false
"""
    (tmp_path / "config.yaml").write_text(text)
    made = planned(f"--config-dir {tmp_path} --config-name config training.batch_size=8")
    training = made.config.training
    assert (training.offline_steps, training.batch_size, training.lr, training.eval_freq) == (7, 8, 1e-4, 0)
    assert made.config.policy.name == "diffusion"
    assert vars(made.config.policy)["down_dims"] == (8, 16)
    assert vars(made.config.policy)["image_normalization"] == "signed"


def test_where_a_dataset_is_found(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A root that is named, LeRobot's variable, the store, the caches of the hub; and it is said which."""
    name = "me/only_here"
    assert "looked at" in problems(f"dataset_repo_id={name}")[0]
    write_set(tmp_path / "cache" / name, "observation.image", (96, 96), 2, 10)
    monkeypatch.setenv("HF_LEROBOT_HOME", str(tmp_path / "cache"))
    assert planned(f"dataset_repo_id={name}").datasets[0].place == "cache"
    monkeypatch.setenv("HF_LEROBOT_HOME", str(tmp_path / "nothing"))
    hub = tmp_path / "hub/datasets--me--only_here/snapshots/abc"
    hub.parent.mkdir(parents=True)
    (tmp_path / "cache" / name).rename(hub)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    assert planned(f"dataset_repo_id={name}").datasets[0].uri == str(hub)
    monkeypatch.setenv("DATA_DIR", str(here / "data"))
    monkeypatch.chdir(tmp_path)
    assert planned("").datasets[0].place == "root"
    monkeypatch.delenv("DATA_DIR")
    found = planned(f"--root {here / 'data'}").datasets[0]
    assert (found.place, found.is_converted) == ("root", False)
    store = here / "outputs/train"
    if (store / "datasets/pusht").is_dir():  # the page was run
        found = planned(f"--store-uri {store}").datasets[0]
        assert (found.place, found.is_converted) == ("store", True)


def test_every_preset_of_the_facts_composes() -> None:
    for name in (
        "act",
        "act_pusht",
        "diffusion",
        "diffusion_pusht_keypoints",
        "tdmpc",
        "tdmpc_pusht_keypoints",
        "vqbet",
    ):
        assert to_dict(compose([f"policy={name}", "data.uri=x"]))["policy"]["name"] == name.split("_")[0]
