"""LeRobot's policies: ``folder.py`` reads and writes pretrained_model, ``table.py`` says what is called how, for each policy."""

from tendon.weights.formats.lerobot.folder import FORMAT

__all__ = ["FORMAT"]
