"""What pi0's tensors are called elsewhere: openpi's PyTorch files (LeRobot's new ones too) and LeRobot's old ones. No torch.

Left out there or here: ``paligemma.lm_head`` repeats ``embed_tokens`` (a file may hold either), the expert's is never read.
"""

from __future__ import annotations

import re

from tendon.policies.weight_spec import renamed

PAIR = "paligemma_with_expert."
LANGUAGE = f"{PAIR}paligemma.model.language_model."
EXPERT = f"{PAIR}gemma_expert.model."

# Ours (below net) to openpi's, the first that fits.
OPENPI = (
    (r"vision\.(.*)", rf"{PAIR}paligemma.model.vision_tower.vision_model.\1"),
    (r"connector\.(.*)", rf"{PAIR}paligemma.model.multi_modal_projector.linear.\1"),
    (r"gemma\.embed_tokens\.(.*)", rf"{LANGUAGE}embed_tokens.\1"),
    (r"gemma\.prefix_norm\.(.*)", rf"{LANGUAGE}norm.\1"),
    (r"gemma\.layers\.(\d+)\.prefix\.(.*)", rf"{LANGUAGE}layers.\1.\2"),
    (r"gemma\.expert_norm\.(.*)", rf"{EXPERT}norm.\1"),
    (r"gemma\.layers\.(\d+)\.expert\.(.*)", rf"{EXPERT}layers.\1.\2"),
    (r"((?:action_in_proj|action_out_proj|state_proj|action_time_mlp_in|action_time_mlp_out|time_mlp_in|time_mlp_out)\..*)", r"\1"),
)  # fmt: skip
OURS = (
    (r"vision_tower\.vision_model\.(.*)", r"vision.\1"),
    (r"vision_tower\.(.*)", r"vision.\1"),
    (r"multi_modal_projector\.linear\.(.*)", r"connector.\1"),
    (r"language_model\.embed_tokens\.(.*)", r"gemma.embed_tokens.\1"),
    (r"language_model\.norm\.(.*)", r"gemma.prefix_norm.\1"),
    (r"language_model\.layers\.(\d+)\.(.*)", r"gemma.layers.\1.prefix.\2"),
    (r"gemma_expert\.norm\.(.*)", r"gemma.expert_norm.\1"),
    (r"gemma_expert\.layers\.(\d+)\.(.*)", r"gemma.layers.\1.expert.\2"),
    (r"lm_head\.weight", r"gemma.embed_tokens.weight"),
)
# Statistics and a processing lie beside the weights in some folders.
BESIDE = re.compile(r"(observation|action)[\w.]*\.(mean|std|min|max|q\d+|count)|\d+-.*|fast\.(limits|merges)")
UNREAD = re.compile(r"gemma_expert\.(lm_head|embed_tokens)\.|normalize_|unnormalize_|.*\.head\.|.*position_ids$")


def openpi_name(ours: str) -> str:
    """The name in openpi of a tensor below ``net``.

    Raises:
        KeyError: it has none.
    """
    theirs = renamed(ours, OPENPI)
    if theirs is None:
        raise KeyError(f"{ours} has no name in openpi's files")
    return theirs


def our_name(theirs: str) -> str:
    """Our name below ``net`` of a published tensor, of any of the three layouts; empty where no number depends on it."""
    name = theirs.removeprefix("model.").removeprefix(PAIR).removeprefix("paligemma.")
    name = re.sub(r"^language_model\.lm_head\.", "lm_head.", name.removeprefix("model."))
    name = re.sub(r"^language_model\.model\.", "language_model.", name)  # LeRobot's first layout
    name = re.sub(r"^gemma_expert\.model\.", "gemma_expert.", name)
    if BESIDE.fullmatch(theirs) or UNREAD.match(name) or name.startswith(("normalize", "unnormalize")):
        return ""
    ours = renamed(name, OURS)
    return theirs.removeprefix("model.") if ours is None else ours
