"""The guest side imports the standard library, numpy, its simulator and itself."""

import ast
import sys
from pathlib import Path

import pytest

import tendon.sim

ROOT = Path(tendon.sim.__file__).parent
ALLOWED = {
    "numpy", "robosuite", "mujoco", "gym_pusht", "gym_aloha", "gym_xarm", "pymunk", "shapely", "dm_control",
    "vizdoom", "PIL", "minestudio", "sam2", "metaworld", "calvin_env", "calvin_agent", "simpler_env", "genmanip", "libero",
    "hydra", "omegaconf",
}  # fmt: skip


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            modules = [node.module]
        else:
            continue
        for module in modules:
            top = module.split(".")[0]
            assert top in sys.stdlib_module_names or top in ALLOWED, f"{path.name} imports {module}"


def test_a_relative_import_never_leaves_the_folder():
    for path in ROOT.rglob("*.py"):
        depth = len(path.relative_to(ROOT).parts)
        levels = [node.level for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
        assert all(level <= depth for level in levels), path
