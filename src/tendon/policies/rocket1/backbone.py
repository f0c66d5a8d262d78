"""The net that sees picture and mask: EfficientNet-B0, ViT-B/16, a small one for CPUs, or any of timm's by name.

All give one feature map. Weights of timm's plain three-channel model are loaded by name; the mask's channel begins by one of
two rules. Legend: N pictures, C channels.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tendon.errors import ConfigError, DataError, MissingDependency, Problem
from tendon.policies.rocket1.config import TIMM_WEIGHTS, TINY, family_of, timm_name
from tendon.policies.rocket1.efficientnet import EfficientNetB0
from tendon.policies.rocket1.vit import VitB16
from tendon.storage import open_store
from tendon.storage.uri import local_path, scheme_of

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
NUM_CHANNELS = 4  # red, green, blue, mask
TIMM_SHARE = 3 / 4  # of the filters that timm repeats for a fourth channel


class TinyBackbone(nn.Module):
    """Four strided convolutions with group norms: a map 1/16 as large, for pictures of about 96 x 96 on a CPU."""

    widths = (24, 48, 64, 96)
    num_channels = widths[-1]

    def __init__(self, in_chans: int = NUM_CHANNELS) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = in_chans
        for i, width in enumerate(self.widths):
            kernel, stride = (5, 2) if i == 0 else (3, 2)
            layers += [nn.Conv2d(before, width, kernel, stride, kernel // 2, bias=False), nn.GroupNorm(8, width)]
            layers.append(nn.SiLU())
            before = width
        self.layers = nn.Sequential(*layers)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """The feature map."""
        out: Tensor = self.layers(x_NCHW)
        return out


def _of_timm(name: str, size: tuple[int, int]) -> nn.Module:
    """One of timm's models as a feature extractor, under its own names; it returns a list of maps."""
    timm = import_timm(f"policy.backbone={name}")
    if not timm.is_model(family_of(name)):
        raise ConfigError(
            f"there is no backbone {name}",
            where="policy.backbone",
            why="it is none of efficientnet_b0, vit_base_patch16_224, tiny, and timm has none of that name",
            fix="policy.backbone=efficientnet_b0.ra_in1k",
        )
    sized = {"img_size": size} if "vit" in name else {}
    options = {"pretrained": False, "features_only": True, "in_chans": NUM_CHANNELS}
    model: nn.Module = timm.create_model(timm_name(name), **options, **sized)
    data = timm.data.resolve_model_data_config(model)
    model.num_channels = model.feature_info.channels()[-1]  # type: ignore[operator, union-attr]
    model.mean_std = (tuple(data["mean"]), tuple(data["std"]))  # type: ignore[assignment]
    return model


def make_backbone(name: str, size: tuple[int, int]) -> nn.Module:
    """The network by its timm name, with random weights; ``num_channels`` says how wide its map is.

    Raises:
        ConfigError: timm has none of that name.
        MissingDependency: it is one of timm's, which is not installed.
    """
    family = family_of(name)
    if family == "efficientnet_b0":
        return EfficientNetB0(NUM_CHANNELS)
    if family == "vit_base_patch16_224":
        return VitB16(NUM_CHANNELS, size)
    if family == TINY:
        return TinyBackbone()
    return _of_timm(name, size)


def mean_std(backbone: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """What its pictures are normalised with."""
    found: tuple[tuple[float, ...], tuple[float, ...]] = getattr(backbone, "mean_std", IMAGENET)
    return found


@torch.no_grad()
def start_backbone(backbone: nn.Module, name: str, weights: str, mask_channel_init: str) -> None:
    """Fill it from ``weights`` (nothing, ``timm``, or a file's address) and begin the mask's channel by a rule.

    Raises:
        DataError: tensors are missing or of another shape.
        MissingDependency: timm is to fetch them and is not installed.
    """
    if weights:
        _load(backbone, _read(name, weights), weights, mask_channel_init)
    elif mask_channel_init == "zeros":
        first_conv(backbone).weight[:, NUM_CHANNELS - 1 :].zero_()


def first_conv(backbone: nn.Module) -> nn.Conv2d:
    """The layer that sees the pixels."""
    return next(module for module in backbone.modules() if isinstance(module, nn.Conv2d))


def for_four_channels(weight_OCHW: Tensor, rule: str) -> Tensor:
    """A first layer of three channels for four: timm's rule, or the picture's filters as they are and zeros for the mask.

    timm repeats the channels (red, green, blue, red) and scales all of them by 3/4, so that sums stay as large.
    """
    if weight_OCHW.shape[1] != NUM_CHANNELS - 1:
        return weight_OCHW
    if rule == "timm":
        return torch.cat([weight_OCHW, weight_OCHW[:, :1]], 1) * TIMM_SHARE
    return torch.cat([weight_OCHW, torch.zeros_like(weight_OCHW[:, :1])], 1)


def import_timm(where: str) -> Any:
    """The module.

    Raises:
        MissingDependency: it, or the torchvision that it needs, is not installed.
    """
    try:
        import timm
        import timm.data
    except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision that was built for another torch
        raise MissingDependency(
            "this needs timm",
            where=where,
            why=f"{type(error).__name__}: {str(error).splitlines()[0]}",
            fix="pip install 'tendon-robotics[rocket]', with the torchvision that belongs to your torch",
        ) from error
    return timm


def _load(backbone: nn.Module, tensors: dict[str, Tensor], where: str, rule: str) -> None:
    """By name; what a feature extractor does not have (head, last norm) is left out."""
    own = backbone.state_dict()
    first = next(name for name, module in backbone.named_modules() if module is first_conv(backbone)) + ".weight"
    found = {name.removeprefix("backbone."): tensor for name, tensor in tensors.items()}
    if all(name.startswith("model.") for name in own) and not any(name.startswith("model.") for name in found):
        found = {f"model.{name}": tensor for name, tensor in found.items()}
    if first in found:
        found[first] = for_four_channels(found[first].float(), rule)
    counts = {name for name in own if name.endswith("num_batches_tracked")}
    problems = [
        Problem(f"{name} is missing", where, "the backbone has it", "use weights of this backbone, as timm names them")
        for name in own
        if name not in found and name not in counts
    ]
    problems += [
        Problem(
            f"{name} has another shape",
            where,
            f"the file has {list(found[name].shape)}, the backbone {list(own[name].shape)}",
            "use weights of this backbone; ViT's positions are those of 224 x 224 pixels",
        )
        for name in own
        if name in found and found[name].shape != own[name].shape
    ]
    if problems:
        raise DataError.of(problems[:10])
    backbone.load_state_dict({name: found.get(name, own[name]) for name in own})


def _read(name: str, weights: str) -> dict[str, Tensor]:
    """Tensors by timm's names, from timm's own download or from a file."""
    if weights == TIMM_WEIGHTS:
        timm = import_timm("policy.backbone_weights=timm")
        try:
            state: dict[str, Tensor] = timm.create_model(timm_name(name), pretrained=True).state_dict()
        except Exception as error:  # of the network, of its hub, or for a name without weights
            raise DataError(
                f"timm cannot fetch the weights of {name}",
                where="policy.backbone_weights=timm",
                why=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
                fix="policy.backbone_weights=FILE.safetensors, or '' to begin at random",
            ) from error
        return state
    if scheme_of(weights) != "s3":
        return _tensors_of(local_path(weights), weights)
    folder, _, file = weights.rpartition("/")
    with tempfile.TemporaryDirectory(prefix="tendon-backbone-") as scratch:
        path = Path(scratch) / file
        path.write_bytes(open_store(folder).read(file))
        return {key: tensor.clone() for key, tensor in _tensors_of(path, weights).items()}


def _tensors_of(path: Path, where: str) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        tensors: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, RuntimeError, ValueError, EOFError) as error:
        raise _unreadable(where, error) from error
    except Exception as error:  # what a pickle that is none raises
        raise _unreadable(where, error) from error
    return tensors


def _unreadable(where: str, error: Exception) -> DataError:
    why = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    fix = "use a safetensors file of timm's state_dict"
    return DataError("the backbone's weights cannot be read", where=where, why=why, fix=fix)
