"""Texts to vectors: the networks behind the names of ``text_sources.py``, stock parts of transformers but for ``bytes``.

Legend: N texts, L tokens, W numbers of a text's vector.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from tendon.errors import ConfigError, MissingDependency
from tendon.policies.parts.text_sources import TextSource
from tendon.policies.processing.text import ByteTokenizer

NUMERICS = 1

MAX_PLACES = 512  # of bytes


class TextEncoder(nn.Module):
    """``net`` is transformers' module, so its tensors have the names under which they are published."""

    def __init__(self, source: TextSource, sizes: Mapping[str, Any], *, empty: bool) -> None:
        """Build the network.

        Args:
            source: which one.
            sizes: instead of those of the source.
            empty: without values; base weights fill it.

        Raises:
            MissingDependency: transformers is not installed.
            ConfigError: a size has no such name.
        """
        super().__init__()
        self.architecture = source.architecture
        make = {"bert": _bert, "clip": _clip, "bytes": ByteNet}[source.architecture]
        self.net: Any = make({**source.sizes, **sizes})
        if empty:
            _empty(self.net)
        self.output_dim = int(
            {**source.sizes, **sizes}["projection_dim" if self.architecture == "clip" else "hidden_size"]
        )

    def forward(self, ids_NL: Tensor, real_NL: Tensor) -> Tensor:
        """``[N, W]``; ``real_NL``: which tokens are no padding."""
        if self.architecture == "bytes":
            vectors_NW: Tensor = self.net(ids_NL, real_NL)
            return vectors_NW
        seen = self.net(input_ids=ids_NL, attention_mask=real_NL.long())
        if self.architecture == "clip":
            vectors_NW = seen.text_embeds
            return vectors_NW
        return functional.normalize(mean_of(seen.last_hidden_state, real_NL))


class ByteNet(nn.Module):
    """Bytes and their places, one layer of attention between them, their mean."""

    def __init__(self, sizes: Mapping[str, Any]) -> None:
        super().__init__()
        width = _known(sizes, {"hidden_size": 0, "num_attention_heads": 0, "intermediate_size": 0})["hidden_size"]
        self.tokens = nn.Embedding(ByteTokenizer.num_ids, width)
        self.places = nn.Embedding(MAX_PLACES, width)
        self.layer = nn.TransformerEncoderLayer(
            width,
            sizes["num_attention_heads"],
            sizes["intermediate_size"],
            0.0,
            "gelu",
            batch_first=True,
            norm_first=True,
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, ids_NL: Tensor, real_NL: Tensor) -> Tensor:
        """``[N, W]``."""
        tokens_NLW = self.tokens(ids_NL) + self.places.weight[: ids_NL.shape[1]]
        seen_NLW = self.layer(tokens_NLW, src_key_padding_mask=~real_NL)
        vectors_NW: Tensor = self.norm(mean_of(seen_NLW, real_NL))
        return vectors_NW


def mean_of(values_NLW: Tensor, real_NL: Tensor) -> Tensor:
    """The mean over real tokens."""
    weights_NL1 = real_NL.to(values_NLW.dtype).unsqueeze(-1)
    return (values_NLW * weights_NL1).sum(1) / weights_NL1.sum(1).clamp(min=1e-9)


def _bert(sizes: Mapping[str, Any]) -> nn.Module:
    transformers = _transformers()
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config = transformers.BertConfig(**still, **_known(sizes, transformers.BertConfig().to_dict()))
    net: nn.Module = transformers.BertModel(config, add_pooling_layer=False)
    return net


def _clip(sizes: Mapping[str, Any]) -> nn.Module:
    transformers = _transformers()
    config = transformers.CLIPTextConfig(**_known(sizes, transformers.CLIPTextConfig().to_dict()))
    net: nn.Module = transformers.CLIPTextModelWithProjection(config)
    return net


def _empty(net: nn.Module) -> None:
    """Parameters on the meta device. Buffers that no file holds, such as the numbers of places, keep their values."""
    for module in net.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            setattr(module, name, nn.Parameter(parameter.detach().to("meta")))


def _known(sizes: Mapping[str, Any], names: Mapping[str, Any]) -> dict[str, Any]:
    for name in sizes:
        if name not in names:
            raise ConfigError(
                f"policy.text_sizes names {name}",
                where="policy.text_sizes",
                why="the encoder has no size of that name",
                fix="hidden_size, num_hidden_layers, num_attention_heads, intermediate_size, vocab_size, ...",
            )
    return dict(sizes)


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise MissingDependency(
            "the text encoder needs transformers",
            where="policy.text_encoder",
            why=str(error),
            fix="pip install 'tendon-robotics[vla]', or policy.text_encoder=bytes",
        ) from error
    return transformers
