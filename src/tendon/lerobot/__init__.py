"""A LeRobot user's training: ``tendon lerobot train`` takes the words of its Hydra page, and today's flags.

``command.py`` is the order of things. ``page.py`` reads the page's keys, ``today.py`` the flags and train_config.json;
both fill a ``Request``, which is our overrides, a dataset by name, a folder, and what was said of each key.
"""

from tendon.lerobot.command import train

__all__ = ["train"]
