"""Run by robomimic 0.3.0's interpreter: another script with a checkout of another version in its place.

robomimic_source.py CHECKOUT SCRIPT [arguments of the script]. What that version imports for its language and diffusion
models, and fetches from the net when imported, is replaced by names that do nothing.
"""

import runpy
import sys
import types
from pathlib import Path

UNUSED = {
    "transformers": ("AutoModel", "pipeline", "AutoTokenizer", "CLIPTextModelWithProjection"),
    "diffusers": (),
    "diffusers.schedulers": (),
    "diffusers.schedulers.scheduling_ddpm": ("DDPMScheduler",),
    "diffusers.schedulers.scheduling_ddim": ("DDIMScheduler",),
    "diffusers.training_utils": ("EMAModel",),
    "huggingface_hub": ("hf_hub_download",),
}


class Nothing:
    """Whatever is asked of it, it is itself."""

    @classmethod
    def from_pretrained(cls, *args, **kwargs):
        return cls()

    def __getattr__(self, name):
        return lambda *args, **kwargs: self


if __name__ == "__main__":
    for name, members in UNUSED.items():
        module = types.ModuleType(name)
        module.__path__ = []
        vars(module).update(dict.fromkeys(members, Nothing))
        sys.modules[name] = module
    checkout, script, *rest = sys.argv[1:]
    sys.path.insert(0, checkout)
    sys.argv = [script, *rest]
    runpy.run_path(str(Path(__file__).with_name(script)), run_name="__main__")
