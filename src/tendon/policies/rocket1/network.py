"""ROCKET-1's network, with MineStudio's parameter names. Legend: B rows, T steps, H width, S tokens of a picture."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tendon.policies.rocket1.actions import NUM_BUTTON_CLASSES
from tendon.policies.rocket1.backbone import make_backbone, mean_std
from tendon.policies.rocket1.config import Rocket1Config
from tendon.policies.rocket1.recurrent import NUM_INTERACTIONS, NormedLayer, RecurrentBlocks

POOL_LAYERS, POOL_RATIO, POOL_DROPOUT = 2, 2, 0.1


class ActionHead(nn.Module):
    """Log-probabilities of classes, in fp32."""

    def __init__(self, hidden: int, num_classes: int) -> None:
        super().__init__()
        self.linear_layer = nn.Linear(hidden, num_classes)

    def forward(self, features: Tensor) -> Tensor:
        """``[..., num_classes]``."""
        logits: Tensor = self.linear_layer(features)
        return logits.float().log_softmax(-1)


class Running(nn.Module):
    """Moving moments of returns: three numbers that reinforcement learning fills, and behaviour cloning leaves at zero."""

    def __init__(self) -> None:
        super().__init__()
        for name, shape in (("running_mean", (1,)), ("running_mean_sq", (1,)), ("debiasing_term", ())):
            self.register_parameter(name, nn.Parameter(torch.zeros(shape), requires_grad=False))


class ValueHead(nn.Module):
    """What MineStudio's files hold for reinforcement learning; it takes no part in behaviour cloning and does not learn."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden, 1)
        self.normalizer = Running()


class RocketNetwork(nn.Module):
    """Pictures, masks and interactions of a chunk to log-probabilities of buttons and camera."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: Rocket1Config) -> None:
        super().__init__()
        codec, hidden = config.codec, config.hiddim
        height, width = config.image_size
        self.size = (height, width)
        self.backbone = make_backbone(config.backbone, self.size)
        mean, std = mean_std(self.backbone)
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)
        channels = self.backbone.num_channels
        assert isinstance(channels, int)
        self.updim = nn.Conv2d(channels, hidden, 1, bias=False)
        layer = nn.TransformerEncoderLayer(
            hidden, config.num_heads, POOL_RATIO * hidden, POOL_DROPOUT, batch_first=True
        )
        self.pooling = nn.TransformerEncoder(layer, POOL_LAYERS, enable_nested_tensor=False)
        self.positions: nn.Parameter | None = None
        if config.pool_positions:
            with torch.no_grad():
                shape = _map_size(self.backbone, self.size)
            self.positions = nn.Parameter(torch.randn(shape[0] * shape[1], hidden) * 0.02)
        self.interaction = nn.Embedding(NUM_INTERACTIONS, hidden)
        self.recurrent = RecurrentBlocks(hidden, config.num_heads, config.num_layers, config.mem_len)
        self.lastlayer = NormedLayer(hidden, hidden, 1.0, norm=True, relu=True)
        self.final_ln = nn.LayerNorm(hidden)
        classes = {"camera": codec.camera.num_classes, "buttons": NUM_BUTTON_CLASSES}
        self.pi_head = nn.ModuleDict({name: ActionHead(hidden, number) for name, number in classes.items()})
        self.value_head = ValueHead(hidden)

    def forward(
        self,
        image_BTHWC: Tensor,
        mask_BTHW: Tensor,
        interaction_BT: Tensor,
        first_BT: Tensor,
        memory: dict[str, Tensor],
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Log-probabilities by head ``[B, T, classes]``, and the memory behind the chunk.

        Args:
            image_BTHWC: uint8 of any size.
            mask_BTHW: nonzero on the target, of any size.
            interaction_BT: the number of an interaction, -1 where nothing is aimed at.
            first_BT: whether a step begins an episode: it and what follows see nothing of before.
            memory: of the steps before (``recurrent.empty`` has none).
        """
        B, T = image_BTHWC.shape[:2]
        x_BTH = self.see(image_BTHWC.flatten(0, 1), mask_BTHW.flatten(0, 1)).reshape(B, T, -1)
        condition_BTH = self.interaction(interaction_BT + 1)
        z_BTH, memory = self.recurrent(x_BTH, condition_BTH, first_BT, memory)
        z_BTH = self.final_ln(self.lastlayer(z_BTH.relu()))
        return {name: head(z_BTH) for name, head in self.pi_head.items()}, memory

    def see(self, image_NHWC: Tensor, mask_NHW: Tensor) -> Tensor:
        """One vector for each picture."""
        pixels_N3HW = resized_pictures(image_NHWC, self.size)
        pixels_N3HW = (pixels_N3HW / 255 - self.mean) / self.std
        mask_N1HW = resized_masks(mask_NHW, self.size).unsqueeze(1).to(pixels_N3HW.dtype)
        features = self.updim(_last_map(self.backbone(torch.cat([pixels_N3HW, mask_N1HW], 1))))
        tokens_NSH = features.flatten(2).transpose(1, 2)
        if self.positions is not None:
            tokens_NSH = tokens_NSH + self.positions
        pooled_NH: Tensor = self.pooling(tokens_NSH).mean(1)
        return pooled_NH


def resized_pictures(image_NHWC: Tensor, size: tuple[int, int]) -> Tensor:
    """``[N, 3, H, W]`` of 0 to 255 in another size: each pixel between its four nearest, rounded (OpenCV's INTER_LINEAR)."""
    pixels = image_NHWC.permute(0, 3, 1, 2).float()
    if tuple(pixels.shape[2:]) == size:
        return pixels
    return nn.functional.interpolate(pixels, size, mode="bilinear", align_corners=False).round().clamp(0, 255)


def resized_masks(mask_NHW: Tensor, size: tuple[int, int]) -> Tensor:
    """Ones and zeros in another size: each pixel is the one at its place (OpenCV's INTER_NEAREST)."""
    mask = mask_NHW != 0
    if tuple(mask.shape[1:]) == size:
        return mask
    rows, columns = (
        (torch.arange(new, device=mask.device) * old // new).clamp(max=old - 1)
        for old, new in zip(mask.shape[1:], size, strict=True)
    )
    return mask[:, rows][:, :, columns]


def _last_map(maps: Tensor | list[Tensor]) -> Tensor:
    """Timm's feature extractors give all of their maps."""
    return maps if isinstance(maps, Tensor) else maps[-1]


def _map_size(backbone: nn.Module, size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of its feature map, by showing it nothing; statistics of norms stay."""
    was_training = backbone.training
    backbone.eval()
    out = _last_map(backbone(torch.zeros(1, 4, *size, device=next(backbone.parameters()).device)))
    backbone.train(was_training)
    return int(out.shape[2]), int(out.shape[3])
