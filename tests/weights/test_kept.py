"""Base weights: named by content, kept once per store, refused when they are others, held once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tendon.errors import DataError
from tendon.storage import join
from tendon.weights.kept import fetch_weights, weights_uri
from tendon.weights.load import INDEX, read_tensors, write_sharded
from tendon.weights.spec import WeightSpec, content_sha256
from tests.policies.features_of import features_of
from tests.train.forked_ranks import run_ranks
from tests.train.hook_policies import HookConfig
from tests.train.small_trial import run
from tests.train.test_resume import outcome
from tests.weights.base_policy import base_module, on_base, save_base


def test_two_trials_share_one_base_and_the_second_needs_no_address(tmp_path: Path) -> None:
    config = on_base(save_base(tmp_path / "published.safetensors"))
    run(tmp_path / "store/trials/one", policy=config)
    (tmp_path / "published.safetensors").unlink()
    run(tmp_path / "store/trials/two", policy=config)
    kept = [path.name for path in (tmp_path / "store/weights").iterdir()]
    assert kept == [config.sha256]
    assert content_sha256(tmp_path / "store/weights" / config.sha256 / "model.safetensors") == config.sha256


def test_a_checkpoint_holds_only_what_learns(tmp_path: Path) -> None:
    config = on_base(save_base(tmp_path / "published.safetensors", width=64), width=64)
    checkpoint = Path(run(tmp_path / "store/trials/one", policy=config).checkpoint_uri)
    saved = load_file(checkpoint / "pretrained_model/model.safetensors")
    assert set(saved) == {"first.weight", "first.bias", "second.weight", "second.bias"}
    assert len(load_file(checkpoint / "training_state/optimizer_state.safetensors")) == 3 * len(saved)
    spec = json.loads((checkpoint / "pretrained_model/weights.json").read_text())["base"]["base"]
    assert (spec["uri"], spec["sha256"]) == (config.uri, config.sha256)


def test_other_content_than_the_named_is_refused(tmp_path: Path) -> None:
    config = on_base(save_base(tmp_path / "published.safetensors"))
    other = content_sha256(save_base(tmp_path / "published.safetensors", seed=6))
    with pytest.raises(DataError, match="not those that the policy names") as caught:
        run(tmp_path / "store/trials/one", policy=config)
    assert other in caught.value.problems[0].why
    assert config.sha256 in caught.value.problems[0].why
    assert not (tmp_path / "store/weights").exists()


def test_damage_in_the_store_is_told(tmp_path: Path) -> None:
    config = on_base(save_base(tmp_path / "published.safetensors"))
    kept = fetch_weights(config.base_weights()["base"], str(tmp_path / "weights")) / "model.safetensors"
    kept.write_bytes(kept.read_bytes()[:-8] + b"12345678"[:0])
    assert list(read_tensors(fetch_weights(config.base_weights()["base"], str(tmp_path / "weights"))))  # brought again


def test_shards_with_an_index(tmp_path: Path) -> None:
    state = dict(base_module().state_dict())
    files = write_sharded(state, tmp_path / "published", shard_bytes=64)
    assert len(files) > 2
    index = json.loads((tmp_path / "published" / INDEX).read_text())
    assert set(index["weight_map"]) == set(state)
    save_file({"stray": torch.zeros(1)}, tmp_path / "published/consolidated.safetensors")  # not in the index: not read
    config = on_base(tmp_path / "published")
    checkpoint = run(tmp_path / "store/trials/one", policy=config)
    whole = on_base(save_base(tmp_path / "whole.safetensors"))
    assert run(tmp_path / "store/trials/two", policy=whole).weights_sha256 == checkpoint.weights_sha256
    files[1].unlink()
    with pytest.raises(DataError, match="incomplete") as caught:
        run(tmp_path / "other/trials/one", policy=config)
    assert files[1].name in caught.value.problems[0].why


def test_every_wrong_shape_is_listed_at_once(tmp_path: Path) -> None:
    config = on_base(save_base(tmp_path / "published.safetensors", width=6))
    with pytest.raises(DataError) as caught:
        run(tmp_path / "store/trials/one", policy=config)
    whats = [problem.what for problem in caught.value.problems]
    assert sorted(what.split(" has another shape")[0] for what in whats) == sorted(
        ["0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var", "2.weight"]
    )
    assert "the file has [6, 4], base [4, 4]" in [problem.why for problem in caught.value.problems]


def test_missing_and_left_over_tensors_are_named(tmp_path: Path) -> None:
    state = {name: value for name, value in base_module().state_dict().items() if name != "2.bias"}
    save_file(state, tmp_path / "published.safetensors")
    with pytest.raises(DataError, match=r"2\.bias is missing"):
        run(tmp_path / "store/trials/one", policy=on_base(tmp_path / "published.safetensors"))
    save_file(state | {"2.wait": torch.zeros(4)}, tmp_path / "published.safetensors")
    with pytest.raises(DataError, match=r"2\.wait has no place in base"):
        run(tmp_path / "store/trials/one", policy=on_base(tmp_path / "published.safetensors"))


def test_a_torch_file_is_a_base_too_and_runs_no_code(tmp_path: Path) -> None:
    torch.save(base_module().state_dict(), tmp_path / "base.pt")
    spec = WeightSpec(str(tmp_path / "base.pt"), content_sha256(tmp_path / "base.pt"), format="torch")
    tensors = dict(read_tensors(fetch_weights(spec, str(tmp_path / "weights"))))
    assert all(torch.equal(tensors[name], value) for name, value in base_module().state_dict().items())
    torch.save({"path": Path("x")}, tmp_path / "evil.pt")
    spec = WeightSpec(str(tmp_path / "evil.pt"), content_sha256(tmp_path / "evil.pt"), format="torch")
    with pytest.raises(DataError, match="no plain torch file"):
        fetch_weights(spec, str(tmp_path / "weights"))


def test_a_base_is_held_in_the_type_that_is_asked_for(tmp_path: Path) -> None:
    from tendon.weights.build import build_policy

    config = on_base(save_base(tmp_path / "published.safetensors"), dtype="bfloat16")
    features = features_of({"observation.a_agent": 2, "observation.b_target": 2, "action": 2})
    policy = build_policy(config, features, kept_uri=str(tmp_path / "weights"))
    assert policy.get_parameter("base.0.weight").dtype == torch.bfloat16
    assert policy.get_buffer("base.1.num_batches_tracked").dtype == torch.int64


def test_a_remote_store_is_copied_to_this_machine_once(
    s3_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENDON_WEIGHTS_CACHE", str(tmp_path / "cache"))
    config = on_base(save_base(tmp_path / "published.safetensors"))
    run(join(s3_uri, "trials/one"), policy=config)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [config.sha256]
    (tmp_path / "published.safetensors").unlink()
    run(join(s3_uri, "trials/two"), policy=config)
    assert weights_uri(join(s3_uri, "trials/two")) == join(s3_uri, "weights")


def test_tied_tensors_stay_tied(tmp_path: Path) -> None:
    from tendon.weights.load import fill

    def tied() -> torch.nn.ModuleDict:
        pair = torch.nn.ModuleDict({"one": torch.nn.Linear(3, 3, bias=False), "two": torch.nn.Linear(3, 3, bias=False)})
        pair["two"].weight = pair["one"].weight
        return pair

    with torch.device("meta"):
        module = tied()
    fill(module, [("one.weight", torch.eye(3))], "", "here")
    assert module["one"].weight is module["two"].weight
    assert torch.equal(module["two"].weight, torch.eye(3))


def test_a_spec_without_hash_or_commit_is_a_conflict() -> None:
    whats = [conflict.what for conflict in WeightSpec("hf://a/b", "no").conflicts("policy.base")]
    assert whats == ["hf://a/b has no sha256", "hf://a/b has no revision"]
    assert HookConfig("bc").base_weights() == {}


@pytest.mark.parametrize("sharding", [pytest.param("ddp", marks=pytest.mark.long), "fsdp"])
def test_several_processes_stand_on_one_base(tmp_path: Path, sharding: str) -> None:
    config = on_base(save_base(tmp_path / "published.safetensors"))
    run(tmp_path / "store/trials/one", policy=config)
    assert run_ranks(tmp_path / "other/trials/two", policy=config, sharding=sharding) == [0, 0]
    one, two = (outcome(tmp_path / name)[1][-1] for name in ("store/trials/one", "other/trials/two"))
    key = next(name for name in one if name.endswith("loss"))
    assert two[key] == pytest.approx(one[key], rel=1e-4)
    saved = load_file(tmp_path / "other/trials/two/checkpoints/000040/pretrained_model/model.safetensors")
    assert set(saved) == {"first.weight", "first.bias", "second.weight", "second.bias"}


def test_where_the_weights_of_an_address_lie() -> None:
    assert weights_uri("s3://bucket/store/trials/k/bundle") == "s3://bucket/store/weights"
    assert weights_uri("s3://trials/k/bundle") == "s3://trials/k/weights", "a bucket of that name holds no store"
    assert weights_uri("s3://trials/k") == "s3://trials/weights"
    assert weights_uri("s3://bucket") == "s3://bucket/weights"
    assert weights_uri("bundle") == "./weights"
