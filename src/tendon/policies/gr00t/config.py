"""What GR00T N1 and N1.5 share: an Eagle backbone, a head with weights for each embodiment, the prompt. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from tendon.config.schema import Conflict, Count, Positive, Share
from tendon.data.features import Feature
from tendon.policies.processing.prompt import CAMERA, DEFAULT_TEXT, Prompt
from tendon.policies.processing.transform import Transform
from tendon.policies.vla.config import TOKENS, FlowConfig

EMBODIMENTS: Mapping[str, int] = {
    "gr1": 24,
    "oxe_droid": 17,
    "agibot_genie1": 26,
    "genie1_gripper": 26,  # its older name
    "new_embodiment": 31,
}
Embodiment = Literal["gr1", "oxe_droid", "agibot_genie1", "genie1_gripper", "new_embodiment"]


@dataclass(frozen=True)
class Gr00tConfig(FlowConfig):
    """Keys of both; those of the public config.json where it has one."""

    shuffle: ClassVar[int] = 1  # so many by so many patches become one token

    embodiment_tag: Embodiment
    max_num_embodiments: Count
    image_token_id: Count
    rope_theta: Positive
    hidden_size: Count
    input_embedding_dim: Count
    diffusion_heads: Count
    diffusion_layers: Count
    dropout: Share
    max_seq_len: Count
    noise_s: Share
    num_timestep_buckets: Count
    mask_text_padding: bool

    @property
    def camera_tokens(self) -> int:
        """Of one picture in the prompt."""
        side: int = self.image_size // self.patch_size // self.shuffle
        return side * side

    def conflicts(self) -> Iterator[Conflict]:
        """Ids exist, heads divide their width, a chunk fits."""
        yield from super().conflicts()
        if EMBODIMENTS[self.embodiment_tag] >= self.max_num_embodiments:
            number = EMBODIMENTS[self.embodiment_tag]
            what = f"policy.embodiment_tag {self.embodiment_tag} is number {number} of {self.max_num_embodiments}"
            fix = f"policy.max_num_embodiments={number + 1}"
            yield Conflict("embodiment_tag", what, "each embodiment has weights of its own", fix)
        if self.image_token_id >= self.vocab_size:
            what = f"policy.image_token_id is {self.image_token_id}, policy.vocab_size {self.vocab_size}"
            yield Conflict("image_token_id", what, "it is one of them", f"policy.image_token_id={self.vocab_size - 1}")
        if self.input_embedding_dim % self.diffusion_heads or self.input_embedding_dim % 2:
            what = f"policy.input_embedding_dim is {self.input_embedding_dim}, policy.diffusion_heads {self.diffusion_heads}"
            fix = f"policy.input_embedding_dim={2 * self.diffusion_heads * max(1, self.input_embedding_dim // 2 // self.diffusion_heads)}"
            yield Conflict(
                "diffusion_heads", what, "each head takes an equal part, and a time is sines and cosines", fix
            )
        if self.chunk_size > self.max_seq_len:
            what = f"policy.chunk_size is {self.chunk_size}, policy.max_seq_len {self.max_seq_len}"
            yield Conflict("chunk_size", what, "each action has a place", f"policy.chunk_size={self.max_seq_len}")
        if self.image_size // self.patch_size % self.shuffle:
            what = f"policy.image_size is {self.image_size}, which is {self.image_size // self.patch_size} patches"
            size = self.patch_size * self.shuffle * max(1, self.image_size // self.patch_size // self.shuffle)
            why = f"{self.shuffle} by {self.shuffle} of them become one token"
            yield Conflict("image_size", what, why, f"policy.image_size={size}")

    def prompt(self, features: Mapping[str, Feature]) -> tuple[Transform, ...]:
        """A chat: who answers, the pictures, the instruction."""
        cameras = self.cameras(features)
        pieces = ["<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"]
        for number in range(1, len(cameras) + 1):
            pieces += [f"<image {number}><img>", CAMERA, "</img>"]
        pieces.append("{text}<|im_end|>\n<|im_start|>assistant\n")
        made = Prompt(
            pieces=tuple(pieces),
            key=next(iter(self.texts(features)), ""),
            into=TOKENS,
            length=self.tokenizer_max_length + len(cameras) * self.camera_tokens,
            tokenizer=self.tokenizer,
            default=DEFAULT_TEXT,
            pad_in_front=True,
            camera_tokens=self.camera_tokens,
            camera_id=self.image_token_id,
        )
        return (made,)
