"""Vectors, bins, texts, and what a whole processing keeps: order, chance, files."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tendon.data.features import Feature
from tendon.data.stats import FeatureStats
from tendon.errors import ConfigError, DataError, MissingDependency
from tendon.policies.processing.actions import Bins, PadWidth, RelativeActions
from tendon.policies.processing.images import Colour, Crop, Letterbox, ToFloat
from tendon.policies.processing.normalize import Normalize
from tendon.policies.processing.processing import AUGMENT_NOISE, Processing, load_processing
from tendon.policies.processing.rotations import Rotation
from tendon.policies.processing.text import ByteTokenizer, Tokenize

STATE, CAMERA = "observation.state", "observation.images.front"
FEATURES = {
    STATE: Feature(STATE, "state", (8,), "float32"),
    CAMERA: Feature(CAMERA, "image", (12, 20, 3), "uint8"),
    "task": Feature("task", "text", (), "int64"),
    "action": Feature("action", "action", (7,), "float32"),
}
RNG = np.random.default_rng(5)


def numbers(dim: int) -> FeatureStats:
    rows = RNG.normal(RNG.normal(0, 2, dim), 1.5, (300, dim))
    low, high = np.quantile(rows, (0.01, 0.99), axis=0)
    each = (rows.mean(0), rows.std(0), rows.min(0), rows.max(0), low, high)
    return FeatureStats(300, *(tuple(map(float, one)) for one in each))


STATS = {STATE: numbers(8), "action": numbers(7)}
ALL = (
    ToFloat(keys=(CAMERA,)),
    Crop(keys=(CAMERA,), scale=0.9),
    Letterbox(keys=(CAMERA,), size=(10, 10)),
    Colour(keys=(CAMERA,), brightness=0.2, hue=0.1, when="training"),
    Normalize(modes={CAMERA: "imagenet"}),
    RelativeActions(states={"action": STATE}, mask={"action": (True,) * 3 + (False,) * 4}),
    Rotation(keys=("action",), start=3, source="axis_angle", target="rotation_6d"),
    Normalize(modes={STATE: "q99", "action": "min_max"}, rules="groot"),
    Bins(into={STATE: "state_bins"}),
    PadWidth(widths={STATE: 16, "action": 12}),
    Tokenize(into="tokens", length=20),
)


def batch(size: int = 3, chunk: int = 4) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(size)
    return {
        STATE: torch.randn(size, 2, 8, generator=generator),
        CAMERA: torch.randint(0, 256, (size, 2, 12, 20, 3), generator=generator, dtype=torch.uint8),
        "task": torch.zeros(size, 1, dtype=torch.int64),
        "action": torch.rand(size, chunk, 7, generator=generator) - 0.5,
    }


def whole() -> Processing:
    processing = Processing(ALL, FEATURES, STATS, times={CAMERA: 2})
    processing.set_texts(["pick up the cup", "open the drawer"])
    return processing


def test_actions_come_back_through_everything() -> None:
    processing, data = whole(), batch()
    seen = processing(data)
    assert {key: tuple(seen[key].shape) for key in processing.after} == {
        STATE: (3, 2, 16),
        CAMERA: (3, 2, 3, 10, 10),
        "task": (3, 1),
        "action": (3, 4, 12),
        "state_bins": (3, 2, 8),
        "tokens": (3, 1, 20),
        "tokens_mask": (3, 1, 20),
    }
    back = processing.inverse({"action": seen["action"]}, seen)
    assert list(back) == ["action"]
    torch.testing.assert_close(back["action"], data["action"], rtol=1e-4, atol=1e-4)


def test_acting_sees_observations_only_and_gives_the_same_actions() -> None:
    processing, data = whole(), batch()
    predicted = processing(data)["action"]
    seen = processing({key: value for key, value in data.items() if key != "action"}, "acting")
    torch.testing.assert_close(
        processing.inverse({"action": predicted}, seen)["action"], data["action"], atol=1e-4, rtol=0
    )


def test_nothing_is_random_without_the_numbers_and_all_of_it_comes_from_them() -> None:
    processing, data = whole(), batch()
    assert processing.num_draws == 2 + 4
    assert torch.equal(processing(data)[CAMERA], processing(data)[CAMERA])
    draws = torch.rand(3, 6, generator=torch.Generator().manual_seed(1))
    one = processing(data | {AUGMENT_NOISE: draws})[CAMERA]
    torch.manual_seed(7)
    assert torch.equal(one, processing(data | {AUGMENT_NOISE: draws})[CAMERA])
    assert not torch.equal(one, processing(data)[CAMERA])
    part = {key: value[1:2] for key, value in (data | {AUGMENT_NOISE: draws}).items()}
    torch.testing.assert_close(processing(part)[CAMERA], one[1:2])


def test_it_is_saved_and_loaded_to_the_bit(tmp_path: Path) -> None:
    processing, data = whole(), batch()
    processing.save(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"processing.json", "processing.safetensors"}
    loaded = load_processing(tmp_path)
    assert loaded.transforms == processing.transforms
    assert loaded.features == processing.features
    draws = torch.rand(3, 6)
    one, other = processing(data | {AUGMENT_NOISE: draws}), loaded(data | {AUGMENT_NOISE: draws})
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert loaded.text_index("open the drawer") == 1
    again = tmp_path / "again"
    loaded.save(again)
    assert all(
        (again / name).read_bytes() == (tmp_path / name).read_bytes()
        for name in ("processing.json", "processing.safetensors")
    )


def test_a_damaged_file_says_so(tmp_path: Path) -> None:
    whole().save(tmp_path)
    text = json.loads((tmp_path / "processing.json").read_text())
    (tmp_path / "processing.json").write_text(json.dumps(text | {"transforms": [{"kind": "of_tomorrow"}]}))
    with pytest.raises(DataError, match="the processing cannot be read"):
        load_processing(tmp_path)


def test_its_numbers_move_and_travel_with_the_module() -> None:
    processing = whole()
    empty = Processing(ALL, FEATURES, times={CAMERA: 2})
    assert not any("ids" in name for name in processing.state_dict())  # the texts are not weights
    empty.load_state_dict(processing.state_dict())
    empty.set_texts(processing.texts)
    data = batch()
    one, other = processing(data), empty(data)
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert all(buffer.device.type == "meta" for buffer in whole().to("meta").buffers())


# ---------------------------------------------------------------------------------------------------- relative actions


@settings(max_examples=40, deadline=None)
@given(
    size=st.integers(1, 4),
    chunk=st.integers(1, 5),
    times=st.integers(1, 3),
    dim=st.integers(1, 6),
    seed=st.integers(0, 999),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_relative_actions_are_differences_from_the_state_of_now(
    size: int, chunk: int, times: int, dim: int, seed: int, dtype: torch.dtype
) -> None:
    rng = np.random.default_rng(seed)
    mask, dims = tuple(bool(one) for one in rng.integers(0, 2, dim)), tuple(int(one) for one in rng.integers(0, 8, dim))
    now = int(rng.integers(0, times))
    features = FEATURES | {"action": Feature("action", "action", (dim,), "float32")}
    relative = RelativeActions(states={"action": STATE}, mask={"action": mask}, dims={"action": dims}, now={STATE: now})
    processing = Processing([relative], features)
    state = torch.tensor(rng.normal(size=(size, times, 8)), dtype=dtype)
    action = torch.tensor(rng.normal(size=(size, chunk, dim)), dtype=dtype)
    seen = processing({STATE: state, "action": action})
    expected = action.numpy() - np.where(mask, state.numpy()[:, now, list(dims)], 0)[:, None]
    np.testing.assert_allclose(seen["action"], expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(processing.inverse(seen, seen)["action"], action)
    acting = processing({STATE: state[:, now : now + 1]}, "acting")
    torch.testing.assert_close(processing.inverse({"action": seen["action"]}, acting)["action"], action)


def test_differences_have_ends_that_follow_and_a_mean_that_does_not() -> None:
    relative = RelativeActions(states={"action": STATE}, mask={"action": (True, *[False] * 6)})
    after = relative.stats_after(FEATURES, STATS)["action"]
    assert after.min[0] == pytest.approx(STATS["action"].min[0] - STATS[STATE].max[0])
    assert after.max[0] == pytest.approx(STATS["action"].max[0] - STATS[STATE].min[0])
    assert after.min[1:] == STATS["action"].min[1:]
    with pytest.raises(ConfigError, match="needs mean, which is not known"):
        Processing([relative, Normalize(modes={"action": "mean_std"})], FEATURES, STATS)
    own = {"action": {"mean": (0.0,) * 7, "std": (2.0,) * 7}}
    Processing([relative, Normalize(modes={"action": "mean_std"}, statistics=own)], FEATURES, STATS)


@pytest.mark.parametrize(
    ("transform", "words"),
    [
        (RelativeActions(states={"action": STATE}, mask={"action": (True,)}), "has 7 dimensions, its mask 1"),
        (RelativeActions(states={"action": STATE}, dims={"action": (9,) * 7}), "dimension 9 of observation.state"),
        (RelativeActions(states={"action": "observation.no"}), "does not fit observation.no"),
        (PadWidth(widths={"action": 4}), "it has 7 numbers, the width is 4"),
        (Bins(into={CAMERA: "bins"}), "it is a image"),
        (Tokenize(key=STATE), "it is a state"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(transform: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Processing([transform], FEATURES)


# ------------------------------------------------------------------------------------------------- width, bins and texts


@settings(max_examples=30, deadline=None)
@given(
    dim=st.integers(1, 6), spare=st.integers(0, 5), dtype=st.sampled_from([torch.float32, torch.float16, torch.int64])
)
def test_a_width_is_padded_with_zeros_and_cut_again(dim: int, spare: int, dtype: torch.dtype) -> None:
    processing = Processing(
        [PadWidth(widths={"action": dim + spare})], {"action": Feature("action", "action", (dim,), "float32")}
    )
    raw = (torch.randn(2, 3, dim) * 9).to(dtype)
    seen = processing({"action": raw})
    np.testing.assert_array_equal(seen["action"], np.pad(raw, ((0, 0), (0, 0), (0, spare))))
    assert seen["action_width_mask"].tolist() == [[[True] * dim + [False] * spare] * 3] * 2
    assert torch.equal(processing.inverse({"action": seen["action"]}, seen)["action"], raw)


def test_bins_are_those_of_pi0_fast() -> None:
    """numpy's digitize over 257 edges, less one; what lies below the first edge is 0 here, not -1."""
    features = {STATE: Feature(STATE, "state", (1,), "float32")}
    processing = Processing([Bins(into={STATE: "bins"})], features)
    values = np.concatenate([np.linspace(-1.1, 1.1, 500), [-1, 1, 0]]).astype(np.float32)
    got = processing({STATE: torch.tensor(values).view(-1, 1, 1)})["bins"].flatten()
    expected = np.maximum(np.digitize(values, np.linspace(-1, 1, 257)[:-1]) - 1, 0)
    np.testing.assert_array_equal(got, expected)
    back = Bins(into={"action": "bins"}).inverse({"bins": got}, {}, {})["action"]
    assert np.abs(np.clip(values, -1, 1) - back.numpy()).max() <= 1 / 256 + 1e-6


def test_texts_become_rows_of_a_table() -> None:
    processing = Processing(
        [Tokenize(into="tokens", length=12, template="{text}\n", spaces=True, lower=True)], FEATURES
    )
    processing.set_texts(["Pick_it\nup ", "a text that is too long for the row"])
    seen = processing({"task": torch.tensor([[0], [1]])})
    ids, real = seen["tokens"][:, 0], seen["tokens_mask"][:, 0]
    assert ByteTokenizer().decode(ids[0].tolist()) == "pick it up\n"
    assert real[0].all()
    assert ids[1].tolist() == [1, *(3 + ord(letter) for letter in "a text that")]
    new = processing.text_index("go")
    assert new == 2
    assert processing.text_index("go") == 2
    tokens = processing({"task": torch.tensor([[new]])}, "acting")
    assert tokens["tokens"][0, 0].tolist() == [1, 3 + ord("g"), 3 + ord("o"), 3 + ord("\n"), 2, *[0] * 7]
    assert tokens["tokens_mask"][0, 0].tolist() == [True] * 5 + [False] * 7


def test_padding_can_stand_in_front() -> None:
    processing = Processing([Tokenize(into="tokens", length=6, pad_in_front=True)], FEATURES)
    processing.set_texts(["ab"])
    assert processing({"task": torch.tensor([[0]])})["tokens"][0, 0].tolist() == [0, 0, 1, 3 + 97, 3 + 98, 2]


@pytest.mark.skipif(find_spec("transformers") is not None, reason="transformers is installed")
def test_a_tokenizer_in_a_folder_says_what_it_needs() -> None:
    with pytest.raises(MissingDependency, match="needs transformers"):
        Processing([Tokenize(tokenizer="somewhere")], FEATURES)


def test_a_tokenizer_in_a_folder_is_read_offline_and_saved_beside(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {"[PAD]": 0, "[UNK]": 1, "pick": 2, "up": 3, "cup": 4}
    inner = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="[PAD]", unk_token="[UNK]")
    fast.save_pretrained(str(tmp_path / "words"))
    processing = Processing([Tokenize(length=4, tokenizer=str(tmp_path / "words"))], FEATURES)
    processing.set_texts(["pick up"])
    data = {"task": torch.tensor([[0]])}
    assert processing(data)["tokens"][0, 0].tolist() == [2, 3, 0, 0]
    processing.save(tmp_path / "bundle")
    (tmp_path / "words").rename(tmp_path / "gone")
    loaded = load_processing(tmp_path / "bundle")
    assert torch.equal(loaded(data)["tokens"], processing(data)["tokens"])
    assert loaded({"task": torch.tensor([[loaded.text_index("cup")]])})["tokens"][0, 0].tolist() == [4, 0, 0, 0]
    with pytest.raises(DataError, match="there is no tokenizer"):
        Processing([Tokenize(tokenizer=str(tmp_path / "nothing"))], FEATURES)


def test_importing_the_transforms_needs_no_torch() -> None:
    import subprocess
    import sys

    modules = ", ".join(
        f"tendon.policies.processing.{name}" for name in ("normalize", "images", "rotations", "actions", "text")
    )
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
