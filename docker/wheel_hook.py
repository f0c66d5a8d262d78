"""Puts pipelines/ and components/ into the wheel as tendon/dag/, so that `tendon run`, `compile` and `submit` need no checkout.

Called by hatchling when it builds a wheel; an editable installation has the folders themselves, an image needs neither.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDERS = ("pipelines", "components")
LEFT_OUT = ("__pycache__",)


class WheelHook(BuildHookInterface):  # type: ignore[type-arg]
    """Adds each file by name, so that caches stay out."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Before the wheel is written."""
        if version == "editable":
            return
        root = Path(self.root)
        for folder in FOLDERS:
            for path in sorted((root / folder).rglob("*")):
                if path.is_file() and not set(path.parts) & set(LEFT_OUT):
                    build_data["force_include"][str(path)] = f"tendon/dag/{path.relative_to(root).as_posix()}"
