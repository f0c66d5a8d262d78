"""Backbones: timm's names, weights of its plain models under both rules for the mask's channel, and what is refused."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tendon.config.compose import compose
from tendon.errors import DataError, MissingDependency
from tendon.policies.rocket1.backbone import first_conv, for_four_channels, make_backbone
from tendon.policies.rocket1.config import Rocket1Config, family_of
from tendon.policies.rocket1.efficientnet import EfficientNetB0
from tendon.policies.rocket1.features import features_of_world
from tendon.policies.rocket1.model import Rocket1

SIZES = {"image_size": (64, 64), "hiddim": 16, "num_heads": 2, "num_layers": 1, "timesteps": 4, "mem_len": 4}


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """What timm's own EfficientNet-B0 has: three channels, and a head that a feature extractor leaves out."""
    torch.manual_seed(0)
    state = EfficientNetB0(3).state_dict() | {"conv_head.weight": torch.zeros(4), "classifier.bias": torch.zeros(2)}
    save_file(state, tmp_path / "b0.safetensors")
    return tmp_path / "b0.safetensors"


@pytest.mark.parametrize("rule", ["zeros", "timm"])
def test_weights_of_three_channels_begin_a_net_of_four(weights: Path, rule: str) -> None:
    config = Rocket1Config("rocket1", backbone_weights=str(weights), mask_channel_init=rule, **SIZES)
    policy = Rocket1(config, features_of_world((64, 64)), {})
    plain = EfficientNetB0(3)
    torch.manual_seed(0)
    plain = EfficientNetB0(3)
    weight, before = first_conv(policy.net.backbone).weight, plain.conv_stem.weight
    if rule == "zeros":
        assert torch.equal(weight[:, :3], before)
        assert not weight[:, 3].any()
    else:
        assert torch.equal(weight[:, :3], 0.75 * before)
        assert torch.equal(weight[:, 3], 0.75 * before[:, 0])
    assert torch.equal(policy.net.backbone.blocks[3][1].conv_dw.weight, plain.blocks[3][1].conv_dw.weight)
    again = Rocket1(config, features_of_world((64, 64)), None)  # weights are loaded next: the file is not asked for
    assert not torch.equal(first_conv(again.net.backbone).weight, weight)


def test_zeros_see_what_three_channels_saw(weights: Path) -> None:
    config = Rocket1Config("rocket1", backbone_weights=str(weights), **SIZES)
    four = Rocket1(config, features_of_world((64, 64)), {}).net.backbone.eval()
    torch.manual_seed(0)
    three = EfficientNetB0(3).eval()
    pixels, mask = torch.randn(2, 3, 64, 64), torch.ones(2, 1, 64, 64)
    torch.testing.assert_close(four(torch.cat([pixels, mask], 1)), three(pixels))


def test_four_channels_stay_as_they_are() -> None:
    weight = torch.randn(2, 4, 3, 3)
    assert for_four_channels(weight, "timm") is weight


def test_wrong_weights_are_refused_by_name(weights: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    state = load_file(weights)
    del state["blocks.2.0.conv_pw.weight"]
    save_file(state, tmp_path / "short.safetensors")
    for name, words in (
        ("short.safetensors", r"blocks\.2\.0\.conv_pw\.weight is missing"),
        ("none.pt", "cannot be read"),
    ):
        config = Rocket1Config("rocket1", backbone_weights=str(tmp_path / name), **SIZES)
        with pytest.raises(DataError, match=words):
            Rocket1(config, features_of_world((64, 64)), {})


def test_other_names_need_timm() -> None:
    if find_spec("timm") is not None:
        pytest.skip("timm is installed")
    with pytest.raises(MissingDependency, match="this needs timm"):
        make_backbone("resnet18.a1_in1k", (64, 64))


def test_a_model_of_timms_is_a_backbone() -> None:
    pytest.importorskip("timm", reason="timm is an extra: pip install 'tendon-robotics[rocket]'")
    config = Rocket1Config("rocket1", backbone="resnet18.a1_in1k", **SIZES)
    policy = Rocket1(config, features_of_world((64, 64)), {})
    assert policy.net.see(torch.zeros(1, 64, 64, 3), torch.zeros(1, 64, 64)).shape == (1, 16)


@pytest.mark.parametrize("name", ["efficientnet_b0.ra_in1k", "vit_base_patch16_224.dino"])
def test_our_backbones_are_timms_by_name_and_number(name: str) -> None:
    timm = pytest.importorskip("timm", reason="timm is an extra: pip install 'tendon-robotics[rocket]'")
    size = (64, 64)
    sized = {"img_size": size} if "vit" in name else {}
    theirs = timm.create_model(name, pretrained=False, features_only=True, in_chans=4, **sized).eval()
    ours = make_backbone(name, size).eval()
    shapes = {key: tuple(tensor.shape) for key, tensor in theirs.state_dict().items()}
    assert {key: tuple(tensor.shape) for key, tensor in ours.state_dict().items()} == shapes
    ours.load_state_dict(theirs.state_dict())
    pixels = torch.randn(2, 4, *size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(ours(pixels), theirs(pixels)[-1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("rule", ["zeros", "timm"])
def test_timms_own_weights_of_three_channels_begin_it(rule: str, tmp_path: Path) -> None:
    """As ``pretrained`` would give them; timm's rule for a fourth channel is its own."""
    timm = pytest.importorskip("timm", reason="timm is an extra: pip install 'tendon-robotics[rocket]'")
    from timm.models import adapt_input_conv

    plain = timm.create_model("efficientnet_b0", pretrained=False)
    save_file(plain.state_dict(), tmp_path / "b0.safetensors")
    config = Rocket1Config(
        "rocket1", backbone_weights=str(tmp_path / "b0.safetensors"), mask_channel_init=rule, **SIZES
    )
    weight = first_conv(Rocket1(config, features_of_world((64, 64)), {}).net.backbone).weight
    three = plain.conv_stem.weight
    expected = torch.cat([three, torch.zeros_like(three[:, :1])], 1) if rule == "zeros" else adapt_input_conv(4, three)
    torch.testing.assert_close(weight, expected)


def test_names() -> None:
    assert family_of("timm/vit_base_patch16_224.dino") == "vit_base_patch16_224"
    with torch.device("meta"):
        vit = make_backbone("timm/vit_base_patch16_224.dino", (224, 224))
    assert sum(parameter.numel() for parameter in vit.parameters()) == 85_993_728
    assert {"model.cls_token", "model.pos_embed", "model.blocks.11.mlp.fc2.bias"} <= set(vit.state_dict())
    assert compose(["policy=rocket1-minestudio", "data.uri=x"]).policy.backbone == "timm/vit_base_patch16_224.dino"
