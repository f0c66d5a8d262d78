"""Where a trial begins: other weights by what fits, and a step of another run with changed settings."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tendon.config.compose import compose
from tendon.errors import ConfigError, DataError
from tendon.train.loop.engine import Engine
from tendon.train.state.checkpoint import named_step
from tendon.train.state.start import start_from_weights
from tests.policies.test_robomimic_golden import GOLDEN, content_of
from tests.train.hook_policies import HookConfig
from tests.train.small_trial import feature_stats, make_config, make_stats, run
from tests.train.test_resume import outcome

PLAIN = HookConfig("bc", "Plain")
ROBOMIMIC_JSON = Path(__file__).parents[1] / "config/foreign/base.json"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    uri = tmp_path_factory.mktemp("store") / "trials/whole"
    run(uri, policy=PLAIN, keep_checkpoints=9)
    return uri


def engine_of(policy: HookConfig, **training: Any) -> Engine:
    return Engine(make_config(policy=policy, **training), make_stats().features)


# -------------------------------------------------------------------------------------------------------- policy.init_from


def test_all_of_a_checkpoint_is_loaded(whole: Path) -> None:
    engine = engine_of(PLAIN, ema={"enable": True})
    match = start_from_weights(engine, str(whole))
    saved = load_file(whole / "checkpoints/000040/pretrained_model/model.safetensors")
    assert set(match.loaded) == set(saved)
    assert all(torch.equal(value, saved[name]) for name, value in engine.policy.state_dict().items())
    assert engine.ema is not None
    assert all(torch.equal(value, saved[name]) for name, value in engine.ema.tensors().items())  # not the random start


def test_what_is_loaded_new_and_does_not_fit_is_listed(whole: Path, caplog: pytest.LogCaptureFixture) -> None:
    wide = replace(PLAIN, width=6)
    with caplog.at_level(logging.INFO):
        match = start_from_weights(engine_of(wide), str(whole / "checkpoints/000020"))
    assert match.loaded == ("second.bias",)
    assert match.new == ()
    assert sorted(misfit.split()[0] for misfit in match.misfits) == ["first.bias", "first.weight", "second.weight"]
    text = caplog.text
    assert "1 tensor(s) loaded: second (1)" in text
    assert "first.weight is [4, 4] there and [6, 4] here" in text


def test_new_and_unused_tensors(whole: Path, tmp_path: Path) -> None:
    saved = load_file(whole / "checkpoints/000040/pretrained_model/model.safetensors")
    first = {name: value for name, value in saved.items() if name.startswith("first")}
    save_file(first | {"other.weight": torch.zeros(3)}, tmp_path / "part.safetensors")
    match = start_from_weights(engine_of(PLAIN), str(tmp_path / "part.safetensors"))
    assert set(match.new) == {"second.weight", "second.bias"}
    assert match.unused == ("other.weight",)


def test_when_nothing_fits_it_is_refused(tmp_path: Path) -> None:
    save_file({"other.weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    policy = replace(PLAIN, init_from=str(tmp_path / "other.safetensors"))
    with pytest.raises(ConfigError, match="nothing of these weights fits") as caught:
        run(tmp_path / "trial", policy=policy)
    assert "4 new: first.weight" in caught.value.problems[0].why
    assert "1 not used: other.weight" in caught.value.problems[0].why
    with pytest.raises(DataError, match="no such weights"):
        run(tmp_path / "trial", policy=replace(PLAIN, init_from=str(tmp_path / "nowhere.safetensors")))


def test_a_trial_begins_there_once_and_is_resumed_as_any(whole: Path, tmp_path: Path) -> None:
    import signal

    from tendon.errors import Interrupted

    policy = replace(PLAIN, init_from=str(whole))
    run(tmp_path / "a", policy=policy)
    with pytest.raises(Interrupted):
        run(tmp_path / "b", lambda k: k == 13 and signal.raise_signal(signal.SIGTERM), policy=policy)  # type: ignore[func-returns-value]
    assert run(tmp_path / "b", policy=policy).resumed_from == 14
    assert outcome(tmp_path / "a") == outcome(tmp_path / "b")
    run(tmp_path / "scratch", policy=PLAIN)
    assert outcome(tmp_path / "scratch")[0] != outcome(tmp_path / "a")[0]


def test_a_robomimic_file_is_a_start_and_the_normalisers_stay(tmp_path: Path) -> None:
    content = content_of(np.load(GOLDEN / "bc.npz"))
    stats = {"object": {"mean": [[9.0] * 5], "std": [[7.0] * 5]}}
    content["obs_normalization_stats"] = stats | {"robot0_eef_pos": {"mean": [[9.0] * 3], "std": [[7.0] * 3]}}
    torch.save(content, tmp_path / "theirs.pth")
    default = make_config()
    dims = {"observation.object": 5, "observation.robot0_eef_pos": 3, "action": 3}
    policy = compose(["data.uri=x", "policy=bc", "policy.action_normalization=min_max"]).policy
    env = replace(default.env, observation=("object", "robot0_eef_pos"))
    numbers = {key: feature_stats(0.1, 1.0, -3.0, 3.0, dim) for key, dim in dims.items()}
    hidden = [value.shape[0] for name, value in content["model"].items() if "mlp._model" in name and "bias" in name]
    policy = replace(policy, hidden_dims=tuple(hidden))
    engine = Engine(replace(default, env=env, policy=policy), numbers)
    match = start_from_weights(engine, f"{tmp_path / 'theirs.pth'}#robomimic")
    assert not match.misfits
    assert not match.new
    assert torch.equal(
        engine.policy.get_parameter("trunk.0.weight"), content["model"]["policy.nets.mlp._model.0.weight"]
    )
    assert engine.policy.get_buffer("encoder.normalize.offset").max() == pytest.approx(0.1)
    with pytest.raises(ConfigError, match="no weight format robotmimic"):
        start_from_weights(engine, f"{tmp_path / 'theirs.pth'}#robotmimic")


# ---------------------------------------------------------------------------------------------------- training.resume_from


def test_from_a_step_of_another_run_it_ends_as_that_run_did(whole: Path, tmp_path: Path) -> None:
    result = run(tmp_path / "b", policy=PLAIN, keep_checkpoints=9, resume_from=str(whole / "checkpoints/000020"))
    assert result.resumed_from == 20
    (ours, lines), (theirs, other_lines) = outcome(tmp_path / "b"), outcome(whole)
    assert {name for name in ours if ours[name] != theirs[name]} == {"pretrained_model/config.yaml"}
    assert lines == other_lines


def test_changed_settings_continue_a_finished_trial(
    whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    changed = {"offline_steps": 60, "lr": 1e-2, "weight_decay": 0.1, "batch_size": 4, "freeze": ("first",)}
    with caplog.at_level(logging.INFO):
        result = run(tmp_path / "b", policy=PLAIN, resume_from=str(whole), **changed)
    assert (result.resumed_from, result.step) == (40, 60)
    assert "training.lr was 0.001, is 0.01" in caplog.text
    before = load_file(whole / "checkpoints/000040/pretrained_model/model.safetensors")
    after = load_file(tmp_path / "b/checkpoints/000060/pretrained_model/model.safetensors")
    assert torch.equal(before["first.weight"], after["first.weight"])
    assert not torch.equal(before["second.weight"], after["second.weight"])
    groups = (tmp_path / "b/checkpoints/000060/training_state/optimizer_param_groups.json").read_text()
    assert '"weight_decay": 0.1' in groups
    steps = load_file(tmp_path / "b/checkpoints/000060/training_state/optimizer_state.safetensors")
    assert {int(value) for name, value in steps.items() if name.endswith("/step")} == {60}  # the moments went on


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"offline_steps": 40}, "at step 40 already"),
        ({"offline_steps": 80, "policy": replace(PLAIN, width=6)}, "the network is another one"),
    ],
)
def test_what_cannot_go_on_is_refused(whole: Path, tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        run(tmp_path / "b", **({"policy": PLAIN, "resume_from": str(whole)} | changes))


def test_the_addresses_of_a_step(whole: Path) -> None:
    newest = str(whole / "checkpoints/000040")
    for address in (
        "",
        "/checkpoints",
        "/checkpoints/last",
        "/checkpoints/last/pretrained_model",
        "/checkpoints/000040",
    ):
        assert named_step(f"{whole}{address}") == newest
    assert named_step(f"{whole}/checkpoints/000020") == str(whole / "checkpoints/000020")
    with pytest.raises(ConfigError, match="no such checkpoint") as caught:
        named_step(f"{whole}/checkpoints/000021")
    assert "000040, 000030, 000020, 000010" in caught.value.problems[0].why


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("ckpt_path=a/b", "a/b"),
        ("ckpt_path=null", ""),
        ("resume=true", ""),
        ("resume_from_checkpoint=False", ""),
        ("resume_from_checkpoint=a/b", "a/b"),
        ("training.resume_from=a/b", "a/b"),
    ],
)
def test_the_seeds_words(override: str, value: str) -> None:
    assert compose(["data.uri=x", override]).training.resume_from == value


def test_both_beginnings_are_a_conflict() -> None:
    with pytest.raises(ConfigError, match="are both set"):
        compose(["data.uri=x", "policy.init_from=a", "training.resume_from=b"])


def test_keys_see_the_content_and_defaults_leave_them_alone(whole: Path, tmp_path: Path) -> None:
    from tendon.runs.planner import pinned, run_key

    config = compose(["data.uri=x"])
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "b.safetensors")

    def key(*overrides: str) -> str:
        return run_key(compose(["data.uri=x", *overrides]))

    assert key(f"policy.init_from={tmp_path}/a.safetensors") == key(f"policy.init_from={tmp_path}/b.safetensors")
    assert key(f"policy.init_from={tmp_path}/a.safetensors") != run_key(config)
    assert key(f"training.resume_from={whole}/checkpoints/000020") != run_key(config)
    newest = pinned(compose(["data.uri=x", f"training.resume_from={whole}"]))
    assert newest.training.resume_from == str(whole / "checkpoints/000040")
    with pytest.raises(ConfigError, match="no such checkpoint"):
        pinned(compose(["data.uri=x", f"training.resume_from={tmp_path}/nowhere"]))


@pytest.mark.parametrize(
    ("address", "says"), [("nowhere.pth", "no such weights"), ("a.safetensors#robotmimic", "no weight format")]
)
def test_a_plan_finds_a_start_that_is_not_there(tmp_path: Path, address: str, says: str) -> None:
    from tendon.runs.planner import pinned

    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    assert pinned(compose(["data.uri=x", f"policy.init_from={tmp_path}/a.safetensors"])).policy.init_from
    with pytest.raises(ConfigError, match=says):
        pinned(compose(["data.uri=x", f"policy.init_from='{tmp_path}/{address}'"]))


def test_weights_in_a_bucket_are_a_start(s3_uri: str, whole: Path) -> None:
    from tendon.runs.planner import pinned
    from tendon.storage import open_store

    file = whole / "checkpoints/000040/pretrained_model/model.safetensors"
    open_store(s3_uri).write("models/plain.safetensors", file.read_bytes())
    for address in (f"{s3_uri}/models/plain.safetensors", f"{s3_uri}/models"):
        assert pinned(compose(["data.uri=x", f"policy.init_from={address}"])).policy.init_from == address
        assert len(start_from_weights(engine_of(PLAIN), address).loaded) == 4
    with pytest.raises(ConfigError, match="no such weights"):
        pinned(compose(["data.uri=x", f"policy.init_from={s3_uri}/models/nowhere"]))


def test_the_checkpoint_that_a_robomimic_configuration_names_is_a_start() -> None:
    from tendon.config.foreign.robomimic import read_json, translate

    tree = read_json(ROBOMIMIC_JSON)
    tree["experiment"]["ckpt_path"] = "theirs.pth"
    assert "policy.init_from=theirs.pth" in translate(tree, "here", steps_per_pass=1).overrides
