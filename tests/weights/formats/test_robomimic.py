"""robomimic's .pth in and out: lossless, of every version, and never a door for code."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tendon.config.compose import compose
from tendon.errors import DataError
from tendon.export.bundle import load_policy
from tendon.export.foreign import import_weights, write_proven
from tendon.policies.behaviour_cloning.model import BehaviourCloning
from tendon.weights.formats.robomimic.config import make_config
from tendon.weights.formats.robomimic.pth import FORMAT, export_pth, import_pth, read_file
from tests.policies.test_robomimic_golden import CASES, GOLDEN, content_of

LOW_KEYS = ("object", "robot0_eef_pos")
SEEN_KEYS = (*LOW_KEYS, "agentview_image")
LOW = [case for case in CASES if not case.startswith("image")]


def content(case: str, version: str = "0.3") -> dict[str, Any]:
    """A checkpoint as that version of robomimic writes it."""
    made = content_of(np.load(GOLDEN / f"{case}.npz"))
    made["env_metadata"] = {"env_name": "Lift", "type": 1, "env_kwargs": {}}
    made["shape_metadata"]["use_images"] = False
    if version in ("0.3", "0.4"):
        made["env_metadata"]["env_version"] = "1.4.1"
    if version == "0.4":
        made["shape_metadata"]["use_depths"] = False
    if version == "0.2":
        config = json.loads(made["config"])
        config["algo"].pop("transformer", None)
        config["algo"]["optim_params"]["policy"].pop("optimizer_type", None)
        config["experiment"].pop("logging", None)
        made["config"] = json.dumps(config)
    if version == "0.5":
        states = {"optimizers": {"policy": {"state": {}, "param_groups": []}}, "lr_schedulers": {"policy": None}}
        made["model"] = {"nets": made["model"], **states}
        made["action_normalization_stats"] = {"actions": {"offset": [[0.0] * 3], "scale": [[1.0] * 3]}}
        best = {"best_return": {"Lift": np.float64(0.5)}, "best_success_rate": {"Lift": np.float64(0.25)}}
        made["variable_state"] = {"epoch": 7, "best_valid_loss": np.float64(0.125), **best}
    return made


@pytest.mark.parametrize("case", LOW)
def test_round_trip_loses_nothing(case: str, tmp_path: Path) -> None:
    given = content(case)
    torch.save(given, tmp_path / "theirs.pth")
    foreign = FORMAT.read(tmp_path / "theirs.pth")
    record = write_proven(FORMAT, foreign.policy, foreign.info, tmp_path / "ours.pth", "0.3", foreign.kept)
    assert record.holds
    assert record.max_abs_difference == 0
    back = read_file(tmp_path / "ours.pth")
    assert set(back) == set(given)
    assert set(back["model"]) == set(given["model"])
    assert all(torch.equal(back["model"][name].float(), value.float()) for name, value in given["model"].items())
    assert json.loads(back["config"]) == json.loads(given["config"])
    assert {key: back[key] for key in ("env_metadata", "shape_metadata", "algo_name")} == {
        key: given[key] for key in ("env_metadata", "shape_metadata", "algo_name")
    }


@pytest.mark.parametrize("version", ["0.2", "0.3", "0.4", "0.5"])
def test_every_version_is_read(version: str, tmp_path: Path) -> None:
    given = content("bc_rnn_gmm", version)
    torch.save(given, tmp_path / "file.pth")
    imported = import_pth(tmp_path / "file.pth")
    assert imported.info.name == "bc_rnn"
    assert imported.foreign.version == ("0.5" if version == "0.5" else "0.3")
    if version == "0.5":
        export_pth(imported.policy, imported.info, tmp_path / "again.pth", "0.5", foreign=imported.foreign)
        back = read_file(tmp_path / "again.pth")
        assert back["variable_state"] == given["variable_state"]
        assert back["model"]["optimizers"] == given["model"]["optimizers"]
        assert back["action_normalization_stats"] == given["action_normalization_stats"]
        assert all(torch.equal(back["model"]["nets"][k], v) for k, v in given["model"]["nets"].items())


def test_normalisers_travel_in_both_spellings(tmp_path: Path) -> None:
    given = content("bc", "0.3")
    stats = {"object": (np.arange(5.0), np.arange(1.0, 6.0)), "robot0_eef_pos": (np.zeros(3), np.full(3, 0.5))}
    given["obs_normalization_stats"] = {
        k: {"mean": m[None].tolist(), "std": s[None].tolist()} for k, (m, s) in stats.items()
    }
    torch.save(given, tmp_path / "file.pth")
    imported = import_pth(tmp_path / "file.pth")
    assert isinstance(imported.policy, BehaviourCloning)
    raw = {"observation.object": torch.randn(2, 1, 5), "observation.robot0_eef_pos": torch.randn(2, 1, 3)}
    seen = imported.policy.encoder(raw)[:, 0].numpy()
    np.testing.assert_allclose(
        seen[:, :5], (raw["observation.object"][:, 0].numpy() - stats["object"][0]) / stats["object"][1], rtol=1e-5
    )
    for version, words in (("0.3", {"mean", "std"}), ("0.5", {"offset", "scale"})):
        export_pth(imported.policy, imported.info, tmp_path / f"{version}.pth", version)  # type: ignore[arg-type]
        assert set(read_file(tmp_path / f"{version}.pth")["obs_normalization_stats"]["object"]) == words


def test_actions_normalised_by_mean_and_std_keep_upstreams_tanh(tmp_path: Path) -> None:
    given = content("bc", "0.5")
    given["action_normalization_stats"] = {"actions": {"offset": [[0.5, 0.0, -0.5]], "scale": [[2.0, 1.0, 3.0]]}}
    torch.save(given, tmp_path / "file.pth")
    imported = import_pth(tmp_path / "file.pth")
    big = {"observation.object": torch.full((1, 1, 5), 1e4), "observation.robot0_eef_pos": torch.full((1, 1, 3), 1e4)}
    action, _ = imported.policy.act(big)
    assert (
        ((action["action"][0, 0] - torch.tensor([0.5, 0.0, -0.5])) / torch.tensor([2.0, 1.0, 3.0])).abs() <= 1
    ).all()
    with pytest.raises(DataError, match=r"0\.3 does not normalise actions"):
        export_pth(imported.policy, imported.info, tmp_path / "old.pth", "0.3")
    export_pth(imported.policy, imported.info, tmp_path / "new.pth", "0.5")


class Evil:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("was_run"),))


def test_code_in_a_file_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(content("bc") | {"env_metadata": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(DataError, match="asks for code"):
        import_pth(tmp_path / "evil.pth")
    assert not Path("was_run").exists()
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(DataError):
        import_pth(tmp_path / "plain.pth")
    assert not Path("was_run").exists()


def test_doubles_that_differ_are_refused(tmp_path: Path) -> None:
    given = content("bc_rnn")
    name = next(name for name in given["model"] if "per_step_net" in name)
    given["model"][name] = given["model"][name] + 1
    torch.save(given, tmp_path / "file.pth")
    with pytest.raises(DataError, match="contradicts its double"):
        import_pth(tmp_path / "file.pth")


def test_missing_left_over_and_misshapen_tensors_are_named(tmp_path: Path) -> None:
    given = content("bc")
    weight = given["model"].pop("policy.nets.mlp._model.0.weight")
    given["model"]["policy.nets.mlp._model.0.wait"] = weight
    given["model"]["policy.nets.mlp._model.0.bias"] = torch.zeros(3)
    torch.save(given, tmp_path / "file.pth")
    with pytest.raises(DataError) as caught:
        import_pth(tmp_path / "file.pth")
    whats = [problem.what for problem in caught.value.problems]
    assert any("0.weight is missing" in what for what in whats)
    assert any("0.bias has another shape" in what for what in whats)
    assert any("0.wait is not known" in what for what in whats)


@pytest.mark.parametrize("broken", ["cut", "absent", "list"])
def test_what_is_no_checkpoint_is_said(broken: str, tmp_path: Path) -> None:
    path = tmp_path / "file.pth"
    if broken == "cut":
        torch.save(content("bc"), path)
        path.write_bytes(path.read_bytes()[:4000])
    if broken == "list":
        torch.save([1, 2], path)
    with pytest.raises(DataError):
        import_pth(path)


def test_a_policy_of_ours_becomes_a_file_of_theirs(tmp_path: Path) -> None:
    from tendon.policies.registry import make_policy
    from tendon.policies.spec import PolicySpec
    from tests.policies.features_of import features_of

    features = features_of({"observation.object": 5, "observation.robot0_eef_pos": 3, "action": 3})
    small = {
        "bc": ["policy.hidden_dims=[8]", "policy.observation_normalization=identity"],
        "bc_rnn_gmm": ["policy.hidden_dims=[]", "policy.hidden_dim=8"],
        "bc_transformer": ["policy.embed_dim=8", "policy.num_heads=2", "policy.num_layers=1"],
        "bc_vae": ["policy.encoder_dims=[8]", "policy.decoder_dims=[8]"],
    }
    for policy_name, overrides in small.items():
        config = compose([f"policy={policy_name}", "data.uri=x", *overrides]).policy
        policy = make_policy(config, features).eval()
        info = PolicySpec(config, features, policy.windows)
        for version in ("0.3", "0.5"):
            export_pth(policy, info, tmp_path / "file.pth", version)  # type: ignore[arg-type]
            imported = import_pth(tmp_path / "file.pth")
            assert imported.info.windows == info.windows
            assert json.loads(read_file(tmp_path / "file.pth")["config"])["algo_name"] == "bc"
        assert make_config(info)["algo"]["rnn"]["enabled"] == (policy_name == "bc_rnn_gmm")


@pytest.mark.parametrize(
    ("case", "seen", "goal"), [("bc_goal", LOW_KEYS, ("object",)), ("image_bc_gmm", SEEN_KEYS, ())]
)
def test_an_imported_bundle_knows_what_it_looks_at(
    case: str, seen: tuple[str, ...], goal: tuple[str, ...], tmp_path: Path
) -> None:
    torch.save(content(case), tmp_path / "file.pth")
    import_weights(str(tmp_path / "file.pth"), str(tmp_path / "bundle"), ["env=lift"])
    config = compose([], config_dir=str(tmp_path / "bundle"), config_name="config")
    assert sorted(config.env.observation) == sorted(seen)
    assert config.env.goal == goal
    assert load_policy(str(tmp_path / "bundle"))[1].features["action"].dim == 3


def test_statistics_come_back_to_the_last_bit(tmp_path: Path) -> None:
    given = content("bc", "0.3")
    third = {"mean": [[1 / 3] * 5], "std": [[2 / 3] * 5]}
    given["obs_normalization_stats"] = {"object": third, "robot0_eef_pos": {"mean": [[0.1] * 3], "std": [[0.7] * 3]}}
    torch.save(given, tmp_path / "file.pth")
    imported = import_pth(tmp_path / "file.pth")
    export_pth(imported.policy, imported.info, tmp_path / "again.pth", "0.3", foreign=imported.foreign)
    assert read_file(tmp_path / "again.pth")["obs_normalization_stats"] == given["obs_normalization_stats"]


def test_observations_that_are_not_sorted_are_refused(tmp_path: Path) -> None:
    """They were imported, and each weight met another number than it was trained with."""
    from collections import OrderedDict

    made = content("bc_rnn_gmm")
    shapes = made["shape_metadata"]["all_shapes"]
    made["shape_metadata"]["all_shapes"] = OrderedDict(reversed(list(shapes.items())))
    torch.save(made, tmp_path / "model.pth")
    with pytest.raises(DataError, match="not sorted"):
        import_pth(tmp_path / "model.pth")
