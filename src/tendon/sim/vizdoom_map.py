"""A room for ViZDoom, made here: its WAD with two sets of things, and where a seed puts them. numpy only.

Things that are hunted are Doom's monsters which stand still, or walk about, and never fight; things that are approached
are torches, a lamp and a column. A scene is two different things of one set around the player. Units are Doom's; angles
are degrees, counted to the left from the x axis.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

MAP = "MAP01"
HALF_SIDE = 480  # of the square room
PLAYER_RADIUS = 16
HUNTED = {  # name: class that it inherits from, its sprite, its radius
    "imp": ("DoomImp", "TROO", 20),
    "demon": ("Demon", "SARG", 30),
    "zombie": ("ZombieMan", "POSS", 20),
    "sergeant": ("ShotgunGuy", "SPOS", 20),
    "knight": ("HellKnight", "BOS2", 24),
}
APPROACHED = {  # name: class that it inherits from, and its radius
    "green torch": ("GreenTorch", 16),
    "red torch": ("RedTorch", 16),
    "blue torch": ("BlueTorch", 16),
    "lamp": ("TechLamp", 16),
    "column": ("ShortGreenColumn", 16),
}
HEALTH = 15  # one to three shots of the pistol
START = 96  # how far from the middle the player starts, at most, along each axis
NEAR, FAR = 128, 224  # distance of the things from the player
APART = (40.0, 140.0)  # degrees between the two, seen by the player


@dataclass(frozen=True)
class Placed:
    """A thing of a scene."""

    kind: str
    x: int
    y: int
    offset: int  # Doom puts a summoned thing so far in front of the player

    @property
    def summoned_from(self) -> tuple[int, int]:
        """Where a player that looks along the x axis must stand to summon it."""
        return self.x - self.offset, self.y


@dataclass(frozen=True)
class Scene:
    """The target, the distractor, and where the player stands and looks."""

    target: Placed
    distractor: Placed
    start: tuple[int, int]
    angle: float


def scene(seed: int, kinds: tuple[str, ...], turn: float) -> Scene:
    """The scene of a seed.

    Args:
        seed: of the episode.
        kinds: the set that the two things are drawn from.
        turn: the player looks past the target by at most so many degrees.
    """
    rng = np.random.default_rng(seed)
    while True:
        chosen = [kinds[index] for index in rng.permutation(len(kinds))[:2]]
        start = rng.integers(-START, START + 1, 2)
        bearing = rng.uniform(0, 360)
        bearings = (bearing, bearing + rng.choice([-1, 1]) * rng.uniform(*APART))
        angle = float(bearing + rng.uniform(-turn, turn)) % 360
        placed = [
            _placed(kind, start, at, rng.uniform(NEAR, FAR))
            for kind, at in zip(chosen, bearings)  # noqa: B905
        ]
        if _is_free(placed[1].summoned_from, placed[0]):
            return Scene(placed[0], placed[1], (int(start[0]), int(start[1])), angle)


def _placed(kind: str, start: np.ndarray, bearing: float, distance: float) -> Placed:
    along = np.array([np.cos(np.deg2rad(bearing)), np.sin(np.deg2rad(bearing))])
    x, y = np.round(start + distance * along).astype(int).tolist()
    radius = HUNTED[kind][2] if kind in HUNTED else APPROACHED[kind][1]
    return Placed(kind, x, y, 2 * radius + PLAYER_RADIUS)


def _is_free(point: tuple[int, int], thing: Placed) -> bool:
    """Whether a player at this point does not stand in a thing, which would kill it."""
    return max(abs(point[0] - thing.x), abs(point[1] - thing.y)) > 64


def actor(kind: str) -> str:
    """The class of a kind of thing in our WAD."""
    return "Tendon" + kind.title().replace(" ", "")


def wad(*, moving: bool) -> bytes:
    """The room and the classes of all things.

    Args:
        moving: what is hunted walks about.
    """
    lumps = [("DECORATE", _actors(moving)), (MAP, ""), ("TEXTMAP", _room()), ("ENDMAP", "")]
    body, directory = b"", b""
    for name, text in lumps:
        content = text.encode()
        directory += struct.pack("<ii8s", 12 + len(body), len(content), name.encode())
        body += content
    return struct.pack("<4sii", b"PWAD", len(lumps), 12 + len(body)) + body + directory


def _room() -> str:
    """A square room as UDMF; the engine builds the nodes."""
    corners = [(-1, -1), (-1, 1), (1, 1), (1, -1)]
    skills = " ".join(f"skill{number}=true;" for number in range(1, 6))
    return "\n".join(
        [
            'namespace="ZDoom";',
            *(f"vertex {{ x={x * HALF_SIDE}; y={y * HALF_SIDE}; }}" for x, y in corners),
            *('sidedef { sector=0; texturemiddle="STARTAN3"; }' for _ in corners),
            *(f"linedef {{ v1={i}; v2={(i + 1) % 4}; sidefront={i}; blocking=true; }}" for i in range(4)),
            'sector { heightfloor=0; heightceiling=160; texturefloor="FLOOR4_8"; textureceiling="CEIL3_5"; lightlevel=200; }',
            f"thing {{ x=0; y=0; angle=0; type=1; {skills} single=true; }}",
        ]
    )


def _actors(moving: bool) -> str:
    """The classes in DECORATE, where the end of a line means something."""
    hunted = "\n".join(_hunted(kind, parent, sprite, moving) for kind, (parent, sprite, _) in HUNTED.items())
    return hunted + "".join(f"\nactor {actor(kind)} : {parent}\n{{\n}}\n" for kind, (parent, _) in APPROACHED.items())


def _hunted(kind: str, parent: str, sprite: str, moving: bool) -> str:
    """A monster that does nothing to anybody, and is gone when it is killed."""
    alive = f"  {sprite} AABBCCDD 4 A_Wander\n  Loop" if moving else f"  {sprite} A -1\n  Stop"
    states = [f" {state}:\n{alive}" for state in ("Spawn", "See", "Missile", "Melee", "Pain")]
    states += [f" {state}:\n  TNT1 A 1\n  Stop" for state in ("Death", "XDeath")]
    return "\n".join([f"actor {actor(kind)} : {parent}", "{", f" Health {HEALTH}", " States", " {", *states, " }", "}"])
