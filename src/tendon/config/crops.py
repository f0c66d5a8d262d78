"""Do a policy's crop and keypoints fit its cameras: asked by plan of what the source or the simulator shows, by the policy of its data.

Pure functions of sizes, without torch: ``crop_problems(config.policy, {"agentview_image": (84, 84)})``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tendon.config.schema import PolicyConfig
from tendon.errors import Problem

STRIDE = 32  # pixels of a cell in the last feature map of a residual net


def crop_problems(
    policy: PolicyConfig, cameras: Mapping[str, tuple[int, int]], shown_by: str = "the dataset"
) -> Iterator[Problem]:
    """One problem for each camera that is smaller than the crop.

    Args:
        policy: of any family; one without a crop has no problem.
        cameras: height and width by the name of the camera's observation, after ``data.resize``.
        shown_by: whose images these are.
    """
    if hasattr(policy, "crop_shape"):
        yield from _shape_problems(policy, cameras, shown_by)
        return
    crop, resize = int(getattr(policy, "crop_size", 0)), tuple(getattr(policy, "resize", ()))
    for name, size in cameras.items():
        height, width = resize or size
        if crop > min(height, width):
            resized = ", resized by policy.resize" if resize else ""
            yield Problem(
                f"policy.crop_size is {crop}, {name} {height} x {width}",
                "policy.crop_size",
                f"a crop is a part of the image, and this is the size in which {shown_by} shows it{resized}",
                f"policy.crop_size={min(height, width)}, or 0 for the whole image",
            )


def _shape_problems(policy: PolicyConfig, cameras: Mapping[str, tuple[int, int]], shown_by: str) -> Iterator[Problem]:
    """Of the policies with LeRobot's keys, whose crop has a height and a width."""
    crop, resize = tuple(getattr(policy, "crop_shape", ())), tuple(getattr(policy, "resize_shape", ()))
    if not crop or resize:  # of a resized picture the crop is a share
        return
    for name, (height, width) in cameras.items():
        if crop[0] > height or crop[1] > width:
            yield Problem(
                f"policy.crop_shape is {list(crop)}, {name} {height} x {width}",
                "policy.crop_shape",
                f"a crop is a part of the image, and this is the size in which {shown_by} shows it",
                f"policy.crop_shape=[{min(crop[0], height)},{min(crop[1], width)}], or [] for the whole image",
            )


def keypoint_problems(policy: PolicyConfig, cameras: Mapping[str, tuple[int, int]]) -> Iterator[Problem]:
    """One problem for each camera of which a single cell is left: every keypoint would be its middle, whatever it shows.

    Args:
        policy: of any family; one without keypoints has no problem.
        cameras: as for ``crop_problems``.
    """
    if not getattr(policy, "num_keypoints", 0):
        return
    crop, resize = int(getattr(policy, "crop_size", 0)), tuple(getattr(policy, "resize", ()))
    for name, size in cameras.items():
        height, width = (crop, crop) if crop else resize or size
        if max(height, width) <= STRIDE:
            yield Problem(
                f"{name} is too small for keypoints: {height} x {width} pixels reach the net",
                "policy.num_keypoints",
                f"a cell of its last feature map is {STRIDE} pixels: one is left, and its middle is every keypoint",
                f"policy.num_keypoints=0, or a picture or crop of more than {STRIDE} pixels",
            )
