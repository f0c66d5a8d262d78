"""What GR00T's tensors are called in the public files, N1 and N1.5. No torch.

Left out: output layers of the language model and the vision tower's pooling head, on which no action depends.
"""

from __future__ import annotations

import re

from tendon.policies.pi0.weights import BESIDE
from tendon.policies.weight_spec import renamed

# Ours (below net) to theirs, the first that fits.
N1_5 = (
    (r"backbone\.vision\.(.*)", r"backbone.eagle_model.vision_model.vision_model.\1"),
    (r"backbone\.connector\.(.*)", r"backbone.eagle_model.mlp1.\1"),
    (r"backbone\.language\.(.*)", r"backbone.eagle_model.language_model.model.\1"),
    (r"linear\.(.*)", r"backbone.eagle_linear.\1"),
    (r"head\.(.*)", r"action_head.\1"),
)
N1 = tuple(
    (ours, theirs.replace("backbone.eagle_model", "backbone.model").replace("backbone.eagle_linear", "backbone.linear"))
    for ours, theirs in N1_5
)
OURS = (
    (r"backbone\.(?:eagle_model|model)\.vision_model\.(?:vision_model\.)?(.*)", r"backbone.vision.\1"),
    (r"backbone\.(?:eagle_model|model)\.mlp1\.(.*)", r"backbone.connector.\1"),
    (r"backbone\.(?:eagle_model|model)\.language_model\.model\.(.*)", r"backbone.language.\1"),
    (r"backbone\.(?:eagle_linear|linear)\.(.*)", r"linear.\1"),
    (r"action_head\.(.*)", r"head.\1"),
)
UNREAD = re.compile(
    r".*(\.lm_head\.|vision_model\.head\.|position_ids$|rotary_emb\.inv_freq$|action_head\.mask_token$)"
)


def their_name(ours: str, table: tuple[tuple[str, str], ...]) -> str:
    """The public name of a tensor below ``net``.

    Raises:
        KeyError: it has none.
    """
    theirs = renamed(ours, table)
    if theirs is None:
        raise KeyError(f"{ours} has no name in GR00T's files")
    return theirs


def our_name(theirs: str) -> str:
    """Our name below ``net`` of a public tensor; empty where no number depends on it."""
    name = theirs.removeprefix("_groot_model.")  # LeRobot's own
    if BESIDE.fullmatch(theirs) or UNREAD.match(name):
        return ""
    ours = renamed(name, OURS)
    return theirs if ours is None else ours
