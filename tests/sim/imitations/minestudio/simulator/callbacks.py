"""The one callback that the adapter uses."""


class CommandsCallback:
    """Keeps what it would tell the game."""

    def __init__(self, commands: list[str]) -> None:
        assert commands == ["/time set day"]
