"""Vision towers and language models of transformers, built from sizes: what pi0, pi0-FAST and GR00T stand on.

Importing this needs no transformers; building does. A tower is made of stock modules, so that published weights fit by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tendon.errors import MissingDependency

NUMERICS = 1


@dataclass(frozen=True)
class VisionSizes:
    """A SigLIP tower, as one of its presets or of any other size."""

    width: int
    num_layers: int
    num_heads: int
    feedforward: int
    image_size: int
    patch_size: int

    @property
    def num_tokens(self) -> int:
        """Patches of one picture."""
        side: int = self.image_size // self.patch_size
        return side * side


@dataclass(frozen=True)
class LanguageSizes:
    """A decoder of the Llama family."""

    width: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    feedforward: int
    vocab_size: int


@contextmanager
def needs_transformers(policy: str) -> Iterator[None]:
    """Inside, transformers is imported.

    Raises:
        MissingDependency: it is not installed.
    """
    try:
        yield
    except ImportError as error:
        raise MissingDependency(
            f"{policy} needs transformers",
            where="the policy",
            why=f"a package is not installed ({error})",
            fix="pip install 'tendon-robotics[vla]'",
        ) from None


def make_vision(sizes: VisionSizes, activation: str = "gelu_pytorch_tanh") -> nn.Module:
    """SigLIP without its pooling head, which no policy reads; ``[B, C, H, W]`` of [-1, 1] to ``.last_hidden_state``."""
    with needs_transformers("a vision tower"):
        from transformers import SiglipVisionConfig, SiglipVisionModel
    config = SiglipVisionConfig(
        hidden_size=sizes.width,
        num_hidden_layers=sizes.num_layers,
        num_attention_heads=sizes.num_heads,
        intermediate_size=sizes.feedforward,
        image_size=sizes.image_size,
        patch_size=sizes.patch_size,
        hidden_act=activation,
        vision_use_head=False,
    )
    tower: nn.Module = SiglipVisionModel(config)
    return tower


def gemma_config(sizes: LanguageSizes) -> Any:
    """Of Gemma 1, the language model of PaliGemma."""
    with needs_transformers("Gemma"):
        from transformers import GemmaConfig
    return GemmaConfig(
        hidden_size=sizes.width,
        num_hidden_layers=sizes.num_layers,
        num_attention_heads=sizes.num_heads,
        num_key_value_heads=sizes.num_kv_heads,
        head_dim=sizes.head_dim,
        intermediate_size=sizes.feedforward,
        vocab_size=sizes.vocab_size,
        hidden_act="gelu_pytorch_tanh",
        pad_token_id=None,
        bos_token_id=None,
        eos_token_id=None,
    )


def make_gemma(sizes: LanguageSizes) -> nn.Module:
    """A whole Gemma; of an expert ``embed_tokens`` is dropped by who builds it."""
    config = gemma_config(sizes)
    from transformers import GemmaModel

    model: nn.Module = GemmaModel(config)
    return model


def make_qwen3(sizes: LanguageSizes, theta: float = 1_000_000.0) -> nn.Module:
    """Qwen3 without its output layer."""
    with needs_transformers("Qwen3"):
        from transformers import Qwen3Config, Qwen3Model
    config = Qwen3Config(**_decoder(sizes, theta), rms_norm_eps=1e-6, max_position_embeddings=40960)
    model: nn.Module = Qwen3Model(config)
    return model


def make_llama(sizes: LanguageSizes, theta: float = 130_000.0) -> nn.Module:
    """Llama without its output layer: SmolLM2."""
    with needs_transformers("Llama"):
        from transformers import LlamaConfig, LlamaModel
    config = LlamaConfig(**_decoder(sizes, theta), rms_norm_eps=1e-5, max_position_embeddings=8192)
    model: nn.Module = LlamaModel(config)
    return model


def _decoder(sizes: LanguageSizes, theta: float) -> dict[str, Any]:
    return {
        "hidden_size": sizes.width,
        "num_hidden_layers": sizes.num_layers,
        "num_attention_heads": sizes.num_heads,
        "num_key_value_heads": sizes.num_kv_heads,
        "head_dim": sizes.head_dim,
        "intermediate_size": sizes.feedforward,
        "vocab_size": sizes.vocab_size,
        "hidden_act": "silu",
        "rope_parameters": {"rope_type": "default", "rope_theta": theta},
        "attention_bias": False,
        "use_cache": False,
        "pad_token_id": None,
        "bos_token_id": None,
        "eos_token_id": None,
    }


@contextmanager
def without_values() -> Iterator[None]:
    """Inside, parameters are built on the meta device and take no memory; buffers get their values, which no file holds."""
    plain = nn.Module.register_parameter

    def register(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        plain(module, name, parameter)
        if parameter is not None and not parameter.is_meta:
            module._parameters[name] = nn.Parameter(parameter.data.to("meta"), requires_grad=parameter.requires_grad)

    nn.Module.register_parameter = register  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        nn.Module.register_parameter = plain  # type: ignore[method-assign]


def same_device(module: nn.Module) -> torch.device:
    """Where a module's parameters are."""
    return next(module.parameters()).device
