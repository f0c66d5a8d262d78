"""A user's hyperparameter helper, the Python file with ``make_generator(config_file, script_file)``; called by the command line.

``import robomimic.utils.hyperparam_utils`` in it gives our ConfigGenerator, so that the file runs unchanged and without robomimic.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from tendon.config.generator import ConfigGenerator
from tendon.errors import ConfigError, TendonError
from tendon.trust import run_file

UTILS = "robomimic.utils.hyperparam_utils"


def run_helper(path: str, config_file: str, script_file: str | None = None) -> ConfigGenerator:
    """The generator that the user's function makes.

    Raises:
        ConfigError: the file is not trusted, fails, has no such function, or it gives something else.
    """
    try:
        with _stand_in():
            make = getattr(run_file(path, "--sweep", "tendon_sweep"), "make_generator", None)
            made = make(config_file, script_file) if callable(make) else None
    except TendonError:
        raise
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        raise ConfigError("the helper failed", where=path, why=why, fix="mend that file") from error
    if not isinstance(made, ConfigGenerator):
        why = "it has no function make_generator(config_file, script_file) that returns a ConfigGenerator"
        raise ConfigError("this file makes no sweep", where=path, why=why, fix="return generator")
    return made


@contextmanager
def _stand_in() -> Iterator[None]:
    """Our ConfigGenerator under the name that robomimic's has."""
    leaf = ModuleType(UTILS)
    leaf.ConfigGenerator = ConfigGenerator  # type: ignore[attr-defined]
    modules = {UTILS: leaf}
    if importlib.util.find_spec("robomimic") is None:
        root, utils = ModuleType("robomimic"), ModuleType("robomimic.utils")
        root.utils, utils.hyperparam_utils = utils, leaf  # type: ignore[attr-defined]
        modules |= {"robomimic": root, "robomimic.utils": utils}
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name, module in before.items():
            sys.modules.pop(name)
            if module is not None:
                sys.modules[name] = module
