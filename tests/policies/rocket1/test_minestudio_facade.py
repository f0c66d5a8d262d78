"""docs/from-minestudio.md: its script runs, at a small size, and every argument of the tutorial has a key."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from tendon.data.sources.lmdb_folder import close_all
from tendon.errors import ConfigError
from tendon.minestudio import (
    EMA,
    KLDivergenceCallback,
    MineDataModule,
    MineLightning,
    RocketPolicy,
    Trainer,
    convert_to_normal,
)
from tendon.weights.formats.minestudio import FORMAT
from tests.policies.rocket1.small_set import make_set

pytest.importorskip("lmdb")
PAGE = Path(__file__).parents[3] / "docs/from-minestudio.md"
(SCRIPT,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
SMALLER = {
    "hiddim=1024": "hiddim=16",
    "num_heads=8": "num_heads=2",
    "num_layers=4": "num_layers=1",
    "timesteps=128": "timesteps=8",
    "mem_len=128": "mem_len=8",
    "win_len=128": "win_len=8",
    "frame_width=224": "frame_width=32",
    "frame_height=224": "frame_height=32",
    "batch_size=8": "batch_size=2",
    "num_workers=8": "num_workers=1",
    "warmup_steps=2000": "warmup_steps=2",
    "log_freq=20": "log_freq=2",
    "every_n_steps=8": "every_n_steps=2",
    "devices=8": 'devices=1, accelerator="cpu", default_root_dir=STORE',
    'logger=WandbLogger(project="minestudio")': "logger=False",
    "ckpt_path=ckpt_path,": "ckpt_path=ckpt_path, overrides=SMALL,",
}


@dataclass
class Args:
    objective_weight: float = 0.01
    save_freq: int = 3


def run_page(store: Path, folders: list[Path], *overrides: str, ckpt_path: str | None = None) -> dict[str, Any]:
    script = SCRIPT
    for text, smaller in SMALLER.items():
        assert text in script, f"the page no longer says {text}"
        script = script.replace(text, smaller)
    paths = re.findall(r'"(/nfs-shared-2/data/contractors/dataset_\w+)"', script)
    assert len(paths) == 5
    for path, folder in zip(paths, folders, strict=True):
        script = script.replace(path, str(folder))
    small = ["training.offline_steps=7", "training.num_threads=1", "training.valid_freq=4", *overrides]
    names: dict[str, Any] = {"args": Args(), "ckpt_path": ckpt_path, "STORE": store, "SMALL": small}
    exec(compile(script, str(PAGE), "exec"), names)
    close_all()
    return names


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("contractors")
    lengths = (24, 16, 32, 8, 16)
    return [make_set(root / f"dataset_{i + 6}xx", {f"P{i}-a": n, f"P{i}-b": 8}, i) for i, n in enumerate(lengths)]


def test_the_page_runs(folders: list[Path], tmp_path: Path) -> None:
    names = run_page(tmp_path / "store", folders)
    result = names["result"]
    assert result.step == 7
    trial = Path(result.checkpoint_uri).parents[1]
    weights = sorted(file.name for file in (trial / "weights").iterdir())
    epochs = [int(re.findall(r"epoch=(\d+)", name)[0]) for name in weights]
    assert weights == [
        f"weight-epoch={epoch}-step={step}{twin}.ckpt"
        for epoch, step, twin in zip(epochs, (3, 3, 6, 6), ("-EMA", "", "-EMA", ""), strict=True)
    ]
    assert (trial / "checkpoints" / "000007").is_dir()
    lines = [json.loads(line) for line in (trial / "metrics.jsonl").read_text().splitlines()]
    logged = set().union(*lines)
    assert {"train/lr-AdamW", "train/speed(batch/s)", "train/flips_per_s", "train/button_nll"} <= logged
    assert {"valid/press.attack", "valid/press.attack_data"} <= logged
    # the last file of the average is the rule applied to the weights of every second update
    learnt = FORMAT.read(next((trial / "weights").glob("*step=6.ckpt")))
    average = FORMAT.read(next((trial / "weights").glob("*step=6-EMA.ckpt")))
    assert learnt.info.config.hiddim == 16
    differing = [
        name
        for name, tensor in learnt.policy.net.named_parameters()
        if not torch.equal(tensor, dict(average.policy.net.named_parameters())[name])
    ]
    assert differing
    buffers = dict(average.policy.net.named_buffers())
    assert all(torch.equal(tensor, buffers[name]) for name, tensor in learnt.policy.net.named_buffers())
    # their file is where another run starts
    ckpt = str(next((trial / "weights").glob("*step=6.ckpt")))
    again = run_page(tmp_path / "store", folders, "training.offline_steps=2", ckpt_path=ckpt)["result"]
    assert again.step == 2


def test_the_configuration_of_the_page_is_the_seeds() -> None:
    names: dict[str, Any] = {"args": Args(0.01, 10_000), "ckpt_path": None}
    head = SCRIPT[: SCRIPT.index("result = Trainer(")]
    exec(compile(head, str(PAGE), "exec"), names)
    trainer = Trainer(
        devices=8, precision="bf16", strategy="ddp_find_unused_parameters_true", use_distributed_sampler=False,
        callbacks=names["callbacks"], gradient_clip_val=1.0,
    )  # fmt: skip
    config = trainer.configure(names["mine_lightning"], names["mine_data"], dataset_uri="x")
    policy, training, ema, save, data = config.policy, config.training, config.ema, config.save, config.data
    assert (policy.name, policy.backbone, policy.mask_channel_init) == ("rocket1", "efficientnet_b0.ra_in1k", "timm")
    assert (policy.hiddim, policy.num_heads, policy.num_layers, policy.timesteps, policy.mem_len) == (
        1024,
        8,
        4,
        128,
        128,
    )
    assert (training.lr, training.weight_decay, training.lr_warmup_steps, training.log_freq) == (4e-5, 1e-3, 2000, 20)
    assert (training.batch_size, training.num_gpus, training.precision) == (64, 8, "bf16")
    assert (training.grad_clip_norm, dict(training.objective_weights)) == (1.0, {"behaviour_cloning": 0.01})
    assert (training.save_freq, training.keep_checkpoints) == (10_001, 1)
    assert (save.weights_every_n_steps, save.weights_top_k) == (10_000, -1)
    assert (ema.decay, ema.every_n_steps, ema.validate_original_weights, ema.cpu_offload) == (0.999, 8, True, False)
    assert (data.split_ratio, data.shuffle_episodes, data.threads, data.ahead) == (0.95, True, 8, 4)
    assert training.callbacks == ("LearningRateMonitor", "SpeedMonitorCallback")


def module(**changes: Any) -> MineDataModule:
    params = {"dataset_dirs": ["/a", "/b"], "win_len": 128, "enable_segment": True, **changes.pop("data_params", {})}
    return MineDataModule(data_params=params, **changes)


def test_arguments_without_meaning_are_refused() -> None:
    model = MineLightning(RocketPolicy(), [KLDivergenceCallback(0.5)])
    with pytest.raises(ConfigError, match="win_len is 64, timesteps 128"):
        Trainer().configure(model, module(data_params={"win_len": 64}))
    with pytest.raises(ConfigError, match="use_distributed_sampler"):
        Trainer().configure(model, module(episode_continuous_batch=True))
    with pytest.raises(ConfigError, match="skip_frame"):
        module(data_params={"skip_frame": 2})
    with pytest.raises(ConfigError, match="nothing to aim at"):
        module(data_params={"enable_segment": False})
    with pytest.raises(ConfigError, match="precision"):
        Trainer(precision="64").configure(model, module())
    config = Trainer(callbacks=[EMA()]).configure(model, module())
    assert not config.policy.windows({}).stateful
    assert dict(config.training.objective_weights) == {"behaviour_cloning": 0.0, "kl_divergence": 0.5}


def test_events_are_a_source() -> None:
    given = module(data_params={"mode": "event", "event_regex": "minecraft.kill_entity:.*", "min_nearby": 64})
    path, query = given.source_uri.split("?")
    assert path == "/a,/b"
    assert query == "mode=event&win_len=128&split_ratio=0.9&event_regex=minecraft.kill_entity%3A.%2A&min_nearby=64"
    assert given.conversion == {"resize": [224, 224]}


def test_plain_values() -> None:
    from omegaconf import OmegaConf

    tree = {"a": [1, {"b": 2.5}], "c": "x"}
    normal = convert_to_normal(OmegaConf.create(tree))
    assert normal == tree
    assert type(normal["a"]) is list
    assert type(normal["a"][1]) is dict
