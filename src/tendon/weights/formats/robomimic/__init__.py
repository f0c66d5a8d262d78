"""robomimic's checkpoints: ``pth.py`` reads and writes them, ``config.py`` and ``names.py`` say what is called how."""

from tendon.weights.formats.robomimic.pth import FORMAT

__all__ = ["FORMAT"]
