"""MineStudio's ROCKET-1 files: Lightning and hub, in and out; its own tensors by name and shape (golden/minestudio)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tendon.errors import DataError
from tendon.policies.rocket1.config import Rocket1Config
from tendon.policies.rocket1.features import features_of_world
from tendon.policies.rocket1.model import Rocket1
from tendon.policies.spec import PolicySpec
from tendon.weights.foreign import format_of
from tendon.weights.formats.minestudio import FORMAT, lightning_content
from tests.golden.minestudio import seeded
from tests.policies.rocket1.golden import META

ARGUMENTS = META["arguments"]


def tensors_of(shapes: dict[str, list[int]]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(seeded.weights(name, tuple(shape))) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def theirs() -> dict[str, torch.Tensor]:
    """The state of MineStudio's own tiny RocketPolicy, by its names."""
    return tensors_of(META["shapes"])


def lightning_file(folder: Path, theirs: dict[str, torch.Tensor], **more: Any) -> Path:
    """As MineStudio's trainer writes it: its tensors, the run's hyper-parameters, the state of training."""
    content = lightning_content(theirs, {"model": ARGUMENTS, "learning_rate": 4e-5, "devices": 8, **more}, step=17)
    content |= {
        "loops": {"fit_loop": {"epoch_progress": {"total": {"ready": 1}}}},
        "callbacks": {},
        "lr_schedulers": [],
    }
    content["optimizer_states"] = [{"opt": {"state": {0: {"step": torch.tensor(3.0)}}}, "decay": 0.999, "ema": []}]
    path = folder / "weight-epoch=0-step=17-EMA.ckpt"
    torch.save(content, path)
    return path


def hub_folder(folder: Path, theirs: dict[str, torch.Tensor]) -> Path:
    path = folder / "hub"
    path.mkdir()
    save_file(theirs, path / "model.safetensors")
    (path / "config.json").write_text(json.dumps({**ARGUMENTS, "nucleus_prob": 0.85, "action_space": None}))
    return path


@pytest.mark.parametrize("form", [lightning_file, hub_folder])
def test_their_files_are_read_and_come_back_the_same(
    form: Any, tmp_path: Path, theirs: dict[str, torch.Tensor]
) -> None:
    path = form(tmp_path, theirs)
    assert format_of(path) is FORMAT
    foreign = FORMAT.read(path)
    config = foreign.info.config
    assert {key: getattr(config, key) for key in ARGUMENTS} == ARGUMENTS
    state = foreign.policy.net.state_dict()
    assert list(state.keys() ^ theirs.keys()) == []
    assert all(torch.equal(state[name], tensor) for name, tensor in theirs.items())
    out = tmp_path / ("again.ckpt" if path.is_file() else "again")
    FORMAT.write(foreign.policy, foreign.info, out, "", foreign.kept)
    if path.is_file():
        before, after = (torch.load(one, weights_only=True) for one in (path, out))
        assert after["state_dict"].keys() == before["state_dict"].keys()
        assert all(torch.equal(after["state_dict"][name], each) for name, each in before["state_dict"].items())
        given = after["hyper_parameters"]
        assert given == {**before["hyper_parameters"], "model": {**ARGUMENTS, "nucleus_prob": 0.85}}
    else:
        again = FORMAT.read(out)
        assert again.info.to_json() == foreign.info.to_json()
        written = json.loads((out / "config.json").read_text())
        assert written == {**ARGUMENTS, "nucleus_prob": 0.85}  # RocketPolicy's arguments and nothing else


def test_a_file_without_arguments_is_read_by_its_shapes(tmp_path: Path, theirs: dict[str, torch.Tensor]) -> None:
    path = lightning_file(tmp_path, theirs, model=None)
    foreign = FORMAT.read(path)
    assert foreign.info.config.num_heads == ARGUMENTS["num_heads"]
    assert foreign.info.config.num_layers == ARGUMENTS["num_layers"]
    assert foreign.info.config.timesteps == 128  # what no tensor says: RocketPolicy's default
    assert "does not say its backbone" in foreign.notes[0]


def test_another_policy_of_theirs_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "vpt.ckpt"
    torch.save(lightning_content({"net.img_process.weight": torch.zeros(1)}, {}), path)
    with pytest.raises(DataError, match="not a RocketPolicy"):
        FORMAT.read(path)


def test_arguments_that_do_not_belong_to_the_tensors(tmp_path: Path, theirs: dict[str, torch.Tensor]) -> None:
    path = lightning_file(tmp_path, theirs, model={**ARGUMENTS, "mem_len": 9})
    with pytest.raises(DataError, match="mem_len is 9 in the file, its tensors are of 8"):
        FORMAT.read(path)
    missing = {name: tensor for name, tensor in theirs.items() if name != "updim.weight"}
    with pytest.raises(DataError, match=r"updim\.weight is missing"):
        FORMAT.read(lightning_file(tmp_path, missing))


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    path = tmp_path / "evil.ckpt"
    torch.save({"state_dict": {"mine_policy.x": torch.zeros(1)}, "hyper_parameters": Evil()}, path)
    assert FORMAT.sniff(path)
    with pytest.raises(DataError, match="no file of MineStudio"):
        FORMAT.read(path)
    assert not (tmp_path / "ran").exists()
    damaged = tmp_path / "damaged.ckpt"
    damaged.write_bytes(path.read_bytes()[:200])
    assert not FORMAT.sniff(damaged)


def test_what_minestudio_does_not_have_is_refused(tmp_path: Path) -> None:
    config = Rocket1Config(
        "rocket1", backbone="tiny", image_size=(32, 32), hiddim=16, num_heads=2, num_layers=1, timesteps=4, mem_len=4,
        pool_positions=True, camera_maxval=12.0,
    )  # fmt: skip
    policy = Rocket1(config, features_of_world((32, 32)), {})
    info = PolicySpec(config, policy.features, policy.windows)
    with pytest.raises(DataError) as caught:
        FORMAT.write(policy, info, tmp_path / "x.ckpt", "", {})
    assert [problem.what for problem in caught.value.problems] == [
        "MineStudio has no backbone tiny", "MineStudio has no positions in its pooling",
        "MineStudio has no other camera grid than VPT's",
    ]  # fmt: skip
