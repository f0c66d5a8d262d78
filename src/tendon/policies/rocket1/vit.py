"""ViT-B/16 as a feature extractor, with the names that timm gives it there (``model.*``). Legend: N pictures, L tokens, D width."""

from __future__ import annotations

from torch import Tensor, cat, nn
from torch import zeros as torch_zeros
from torch.nn import functional

PATCH, WIDTH, DEPTH, HEADS = 16, 768, 12, 12


class Attention(nn.Module):
    """Every token looks at every token."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x_NLD: Tensor) -> Tensor:
        """What the tokens say to each other."""
        N, L, D = x_NLD.shape
        q, k, v = self.qkv(x_NLD).reshape(N, L, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = functional.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.proj(mixed.transpose(1, 2).reshape(N, L, D))
        return out


class Mlp(nn.Module):
    """Two layers for each token alone."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x_NLD: Tensor) -> Tensor:
        """The next tokens."""
        out: Tensor = self.fc2(functional.gelu(self.fc1(x_NLD)))
        return out


class Block(nn.Module):
    """Norms in front of attention and MLP."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width)

    def forward(self, x_NLD: Tensor) -> Tensor:
        """The next tokens."""
        x_NLD = x_NLD + self.attn(self.norm1(x_NLD))
        out: Tensor = x_NLD + self.mlp(self.norm2(x_NLD))
        return out


class PatchEmbed(nn.Module):
    """A picture as a row of tokens."""

    def __init__(self, in_chans: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_chans, width, PATCH, PATCH)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Tokens line by line."""
        tokens: Tensor = self.proj(x_NCHW).flatten(2).transpose(1, 2)
        return tokens


class Transformer(nn.Module):
    """The net without its last norm and its head, which timm takes off a feature extractor."""

    def __init__(self, in_chans: int, size: tuple[int, int], width: int, depth: int, heads: int) -> None:
        super().__init__()
        num_tokens = (size[0] // PATCH) * (size[1] // PATCH)
        self.cls_token = nn.Parameter(torch_zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch_zeros(1, 1 + num_tokens, width))
        self.patch_embed = PatchEmbed(in_chans, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.normal_(self.cls_token, std=1e-6)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """The last tokens, the class token in front."""
        tokens = self.patch_embed(x_NCHW)
        tokens = cat([self.cls_token.expand(len(tokens), -1, -1), tokens], 1) + self.pos_embed
        out: Tensor = self.blocks(tokens)
        return out


class VitB16(nn.Module):
    """``[N, in_chans, H, W]`` to ``[N, 768, H / 16, W / 16]``."""

    num_channels = WIDTH

    def __init__(self, in_chans: int = 4, size: tuple[int, int] = (224, 224)) -> None:
        super().__init__()
        self.grid = (size[0] // PATCH, size[1] // PATCH)
        self.model = Transformer(in_chans, size, WIDTH, DEPTH, HEADS)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """The last feature map."""
        tokens: Tensor = self.model(x_NCHW)[:, 1:]
        return tokens.transpose(1, 2).reshape(len(tokens), WIDTH, *self.grid)
