"""Everything that a loader can do is reached through keys of ``data:``, and each key changes what it says."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tendon.config.compose import compose
from tendon.config.schema import CONVERSION, DATA_DEFAULTS, DATA_LATER, DATA_MEANS, DataConfig
from tendon.config.typed import from_dict, to_dict
from tendon.data.convert import convert, dataset_uri
from tendon.data.sources.episodes import EpisodesSource
from tendon.errors import ConfigError
from tendon.loader import Loader, LoaderResources, MixedLoader, Windows
from tendon.loader.choice import SamplingOrder
from tendon.loader.configured import configured_loader, resources_of, validation_data
from tendon.loader.sample_weights import changing_frames
from tests.data.everything import BUTTONS, STATE, TASK, episode, schema

DELTAS = {STATE: (-1, 0), BUTTONS: (0, 1, 2)}


def make(folder: Path, name: str, lengths: tuple[int, ...], text: str = "push") -> str:
    made = [replace(episode(i, n, False), task=text, images={}, masks={}) for i, n in enumerate(lengths)]
    plain = replace(schema(steps_have_texts=False), cameras=(), masks=())
    source = EpisodesSource(f"demo://{name}", plain, made, name, {"valid": [made[-1].episode_id]})
    manifest = convert(source, str(folder), name)
    return dataset_uri(str(folder), name, manifest.plan)


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make(tmp_path_factory.mktemp("store"), "a", (12, 9, 14, 8))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make(tmp_path_factory.mktemp("store"), "b", (30, 20, 5), "pull")


def data_of(*overrides: str) -> DataConfig:
    return compose(["data.uri=unused", *overrides]).data


def load(uri: str, *overrides: str, windows: Windows | None = None, split: str = "train", **more: Any) -> Any:
    return configured_loader(uri, split, windows or Windows.of(DELTAS), 6, 3, data_of(*overrides), **more)


def same(a: Any, b: Any, num: int = 12) -> bool:
    pairs = [(a.batch(k), b.batch(k)) for k in range(num)]
    return all(x.keys() == y.keys() and all(np.array_equal(x[key], y[key]) for key in x) for x, y in pairs)


def direct(uri: str, windows: Windows | None = None, **options: Any) -> Loader:
    from tendon.data.dataset import open_dataset

    return Loader(open_dataset(uri), "train", windows or Windows.of(DELTAS), 6, 3, **options)


def test_the_defaults_are_the_plain_loader(uri: str) -> None:
    assert same(load(uri), direct(uri))
    assert load(uri).state == direct(uri).state


@pytest.mark.parametrize(
    ("overrides", "windows", "options"),
    [
        (["data.skip_episodes=[demo_1]"], Windows.of(DELTAS), {"skip_episodes": ["demo_1"]}),
        ([f"data.edges={{{STATE}: zero}}"], Windows.of(DELTAS, {STATE: "zero"}), {}),
        ([f"data.edges={{{BUTTONS}: none/zero}}"], Windows.of(DELTAS, {BUTTONS: ("none", "zero")}), {}),
        (["data.drop_last=3"], Windows.of(DELTAS, drop_last=3), {}),
        (["data.order=slots"], Windows.of(DELTAS), {"ordering": SamplingOrder("slots")}),
        (["data.order=minestudio"], Windows.of(DELTAS), {"ordering": SamplingOrder("minestudio")}),
        (
            ["data.order_lanes=2", "data.order_block=1", "data.order_unit_mib=1"],
            Windows.of(DELTAS),
            {"ordering": SamplingOrder(lanes=2, block=1, unit_bytes=1 << 20)},
        ),
        (
            ["data.episode_weights={demo_0: 3, demo_1: 0}"],
            Windows.of(DELTAS),
            {"ordering": SamplingOrder(weights={"demo_0": 3.0, "demo_1": 0.0})},
        ),
    ],
)
def test_a_key_is_an_argument(uri: str, overrides: list[str], windows: Windows, options: dict[str, Any]) -> None:
    changed = load(uri, *overrides)
    assert same(changed, direct(uri, windows, **options))
    assert not same(changed, load(uri))
    assert changed.state["plan"] != load(uri).state["plan"]


def test_frames_near_changes_come_more_often(uri: str) -> None:
    from tendon.data.dataset import open_dataset

    dataset = open_dataset(uri)
    plain, more = load(uri), load(uri, f"data.repeat_changes={BUTTONS}", "data.repeat_times=2")
    near = sum(
        len(changing_frames(dataset.lowdim(row)[BUTTONS].sum(1))) for row in dataset.rows if "train" in row.splits
    )
    assert near
    assert more.num_windows == plain.num_windows + 2 * near
    with pytest.raises(ConfigError, match=r"data\.repeat_changes=action\.buttons"):
        load(uri, "data.repeat_changes=action.button")


def test_a_mixture_with_weights(uri: str, other: str) -> None:
    loader = load(
        uri, f"data.mixture=[{other}]", "data.mixture_weights=[3,1]", windows=Windows.of({STATE: (0,), TASK: (0,)})
    )
    assert isinstance(loader, MixedLoader)
    indexes = np.concatenate([loader.batch(k)["dataset_index"] for k in range(4096 // 6 + 1)])[:4096]
    assert np.bincount(indexes).tolist() == [3072, 1024]
    assert loader.texts == ("push", "pull")
    batch = next(loader)
    assert batch[TASK][:, 0].tolist() == batch["dataset_index"].tolist()
    by_size = load(uri, f"data.mixture=[{other}]")
    shares = np.bincount(np.concatenate([by_size.batch(k)["dataset_index"] for k in range(683)])[:4096]) / 4096
    assert shares == pytest.approx([35 / 85, 50 / 85], abs=1e-3)
    evened = load(uri, f"data.mixture=[{other}]", "data.mixture_temperature=1000.0")
    assert np.bincount(np.concatenate([evened.batch(k)["dataset_index"] for k in range(683)])[:4096])[
        0
    ] == pytest.approx(2048, abs=2)
    each = load(uri, f"data.mixture=[{other}]", "data.mixture_weights=[1,1]", "data.mixture_stratified=true")
    assert all(np.bincount(each.batch(k)["dataset_index"]).tolist() == [3, 3] for k in range(9))


def test_a_mixture_of_ranks_and_from_a_state(uri: str, other: str) -> None:
    keys = (f"data.mixture=[{other}]", "data.mixture_weights=[1,2]", "data.skip_episodes=[demo_1]")
    whole = load(uri, *keys)
    ranks = [load(uri, *keys, rank=rank, world=2) for rank in (0, 1)]
    for k in range(5):
        parts = [each.batch(k) for each in ranks]
        assert all(np.array_equal(whole.batch(k)[STATE][rank::2], parts[rank][STATE]) for rank in (0, 1))
    for _ in range(3):
        next(whole)
    again = load(uri, *keys)
    again.load_state(whole.state)
    assert np.array_equal(next(whole)[STATE], next(again)[STATE])
    with pytest.raises(ConfigError, match="which is no episode"):
        load(uri, f"data.mixture=[{other}]", "data.episode_weights={demo_9: 2}")


def test_a_stateful_policy_walks(uri: str, other: str) -> None:
    windows = Windows.of(DELTAS, stateful=True, stride=3)
    assert same(load(uri, windows=windows), direct(uri, windows, ordering=SamplingOrder("slots")))
    with pytest.raises(ConfigError, match=r"data\.order=auto"):
        load(uri, "data.order=shuffled", windows=windows)
    with pytest.raises(ConfigError, match="mixed window by window"):
        load(uri, f"data.mixture=[{other}]", windows=windows)


def test_validation_takes_every_window_once(uri: str) -> None:
    data = data_of("data.order=slots", "data.episode_weights={demo_3: 9}", f"data.repeat_changes={BUTTONS}")
    loader = configured_loader(uri, "valid", Windows.of(DELTAS), 2, 3, validation_data(data))
    assert loader.num_windows == 8


def test_edges_name_features_of_the_windows(uri: str) -> None:
    with pytest.raises(ConfigError, match=r"data\.edges=\{observation\.state: zero\}"):
        load(uri, "data.edges={observation.stat: zero}")


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["data.edges={action: repaet}"], r"data\.edges=\{action: repeat\}"),
        (["data.mixture=[x]", "data.mixture_weights=[1]"], r"has 1 numbers for 2 datasets"),
        (["data.mixture_stratified=true"], "data.mixture is empty"),
        (["data.mixture_temperature=2"], "no weight comes from a number of windows"),
        (["data.mixture=[x]", "data.processes=2"], "made by threads of the training process"),
        (["data.order=slots", "data.order_block=3"], "those of a shuffled order"),
        (["data.repeat_times=3"], "no feature says which frames"),
        (["data.episode_weights={demo_0: much}"], "a weight is a number"),
        (["data.order=slot"], "data.order=slots"),
        (["data.on_bad_sample=substitue"], "data.on_bad_sample=substitute"),
        (["data.mixtur=[x]"], "data.mixture"),
        (["data.drop_last=-1"], "0 or more, or null"),
    ],
)
def test_what_is_wrong_is_said_at_plan_time(overrides: list[str], words: str) -> None:
    with pytest.raises(ConfigError) as raised:
        data_of(*overrides)
    text = "\n".join(f"{each.what} {each.why} {each.fix}" for each in raised.value.problems)
    import re

    assert re.search(words, text), text


def test_resources(uri: str) -> None:
    made = resources_of(data_of("data.fetches=3", "data.tier=window", "data.memory_gib=2", "data.ahead=1"), 0.5)
    assert made == LoaderResources(memory_budget=1 << 30, fetches=3, tier="window", ahead=1)
    assert same(load(uri, "data.tier=block", "data.threads=3"), load(uri))


def test_a_configuration_that_was_saved_before_is_read() -> None:
    config = compose(["data.uri=unused"])
    tree = to_dict(config)
    tree["data"] = {key: value for key, value in tree["data"].items() if key not in DATA_DEFAULTS}
    assert from_dict(tree) == config


def test_every_key_is_a_resource_a_conversion_or_a_part_of_the_stream() -> None:
    """New keys leave run keys as they were while they are at their defaults."""
    old = {"uri", "split", "valid_split", "skip_episodes"}
    names = {each.name for each in fields(DataConfig)}
    assert names == old | set(DATA_MEANS) | set(CONVERSION) | set(DATA_LATER)
    defaults = to_dict(compose(["data.uri=unused"]))["data"]
    assert {key: defaults[key] for key in DATA_LATER} == dict(DATA_LATER)
