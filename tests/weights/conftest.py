"""The tiny policies of tests/train/hook_policies.py as an installed package: ``policy=hooks``, here and in child processes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

from tendon import plugins
from tendon.config import policies
from tests.plugins.outside import install

CACHED = (plugins._installed, plugins.config_folders, policies.policy_claims, policies.policy_configs)


@pytest.fixture(scope="module")
def hooks_installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    site = tmp_path_factory.mktemp("site")
    entries = {"tendon.policies": {"hooks": "tests.train.hook_policies:HookConfig"}}
    install(site, "outside_hooks", entries, {})
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(site), *sys.path]))
        for cached in CACHED:
            cached.cache_clear()
        yield
    for cached in CACHED:
        cached.cache_clear()
