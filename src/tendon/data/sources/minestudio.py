"""MineStudio LMDB 1.0 and 1.1 in: a folder of modalities -> SourceInfo and Episodes, joined by episode name.

Video chunks are copied byte for byte; buttons and camera become features; segmentation (run lengths as they are), meta
information and events become extras, one per chunk. Episodes that a modality lacks, or of another length, are reported.
"""

from __future__ import annotations

import logging
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from tendon.data import tagged_json
from tendon.data.episode import Camera, Episode, Mask, Schema, VideoChunk
from tendon.data.features import Feature, column
from tendon.data.manifest import digest_of
from tendon.data.masks import RunLengths
from tendon.data.sources import lmdb_folder as lmdb
from tendon.data.sources.hashes import Meanwhile, folder_digest
from tendon.data.sources.source import EpisodeInfo, Source, SourceInfo, digest_with_features
from tendon.errors import ConfigError, DataError
from tendon.storage.trees import download
from tendon.storage.uri import local_path, open_store, scheme_of

log = logging.getLogger(__name__)

FPS = 20.0  # of every recording; frames without an action were removed, so steps may be further apart
CAMERA = "observation.images.image"
BUTTONS, AIM = "action.buttons", "action.camera"
META_NUMBERS = (
    "yaw", "pitch", "xpos", "ypos", "zpos", "delta_yaw", "delta_pitch", "cursor_x", "cursor_y",
    "hotbar", "isGuiOpen", "isGuiInventory",
)  # fmt: skip
TARGET, INTERACTION = "observation.masks.target", "observation.interaction"
MASK_SIZE = (360, 640)  # height and width of every recorded mask
INTERACTIONS = ("hunt", "use", "mine", "interact", "craft", "switch", "approach")  # MineStudio reads use as interact
NO_TARGET = -1
# Where interactions overlap, each has a track of its own: masks <prefix>0 and so on, their kinds and their numbers.
TARGETS_PREFIX, TRACK_INTERACTIONS, TRACK_IDS = (
    "observation.masks.target_",
    "observation.interactions",
    "observation.interaction_ids",
)
MAX_LISTED = 200


def sniff(uri: str) -> bool:
    """Whether ``uri`` is a folder with LMDB folders of actions or images below it, or several with commas between them."""
    uri, folders = _plain(uri)
    if folders:
        return any(sniff(folder) for folder in folders)
    if scheme_of(uri) == "s3":
        pattern = re.compile(rf"(^|/)({'|'.join(lmdb.MODALITIES)})/[^/]+/data\.mdb$")
        return any(pattern.search(info.key) for info in open_store(uri).list())
    path = local_path(uri)
    return path.is_dir() and {"action", "image"} <= lmdb.find_folders(path)[0].keys()


def open_uri(uri: str) -> Source:
    """The reader of a folder, of several (``A,B,C``: one set of all their episodes), or of clips (``A?mode=event&...``).

    Files on S3 are copied to a temporary folder, which lives as long as the reader. ``?kinds=image,action`` chooses kinds: an
    episode that lacks another one is kept.

    Raises:
        ConfigError: there is no such kind.
    """
    whole, (uri, folders) = uri, _plain(uri)
    question = whole.partition("?")[2]
    if "mode=event" in question.split("&"):
        from tendon.data.sources.minestudio_events import opened

        chosen = [part for part in question.split("&") if part.startswith("kinds=")]
        rest = "&".join(part for part in question.split("&") if part not in chosen)
        return opened(open_uri("?".join([uri, *chosen[:1]])), rest, whole)
    kinds = _kinds_of(question, whole)
    if folders:
        paths = [local_path(folder).resolve() for folder in folders]
        root = Path(os.path.commonpath(paths))
        below = tuple(path.relative_to(root).as_posix() for path in paths)
        return MineStudioSource(whole, root, kinds=kinds, below=below)
    if scheme_of(uri) != "s3":
        return MineStudioSource(whole, local_path(uri), kinds=kinds)
    folder = tempfile.TemporaryDirectory(prefix="tendon-source-")
    store = open_store(uri)
    for info in list(store.list()):
        if info.key.endswith(f"/{lmdb.DATA}"):
            names = {part.partition(".")[0] for part in info.key.split("/")[:-1]}
            if kinds and not {lmdb.MODALITIES.get(name, name) for name in names} & {*kinds}:
                continue
            log.info("convert: downloading %s/%s", uri, info.key)
            target = Path(folder.name) / info.key
            target.parent.mkdir(parents=True, exist_ok=True)
            download(store, info.key, target)
    return MineStudioSource(whole, Path(folder.name), folder, kinds)


def _kinds_of(question: str, uri: str) -> tuple[str, ...]:
    """The kinds that an address chooses; none: all."""
    text = dict(part.partition("=")[::2] for part in question.split("&")).get("kinds", "")
    kinds = tuple(sorted({lmdb.MODALITIES.get(name, name) for name in text.split(",") if name}))
    known = sorted({*lmdb.MODALITIES.values(), lmdb.EVENT})
    unknown = [kind for kind in kinds if kind not in known]
    if unknown or (kinds and not {"action", "image"} <= {*kinds}):
        raise ConfigError(
            "these kinds cannot be chosen",
            where=uri,
            why=f"{', '.join(unknown)} is none of {', '.join(known)}"
            if unknown
            else "image and action are always needed",
            fix="?kinds=image,action or more of them",
        )
    return kinds


def _plain(uri: str) -> tuple[str, list[str]]:
    """The address without its question, and the folders of one that names several on this machine."""
    uri = uri.partition("?")[0]
    folders = [folder.strip() for folder in uri.split(",")]
    several = len(folders) > 1 and all(scheme_of(folder) != "s3" and local_path(folder).is_dir() for folder in folders)
    return uri, folders if several else []


@dataclass(frozen=True)
class _Layout:
    """What the first episode says of all: key -> dtype and shape of an action, which meta numbers there are."""

    buttons: tuple[str, ...]
    action: Mapping[str, tuple[str, tuple[int, ...]]]
    meta: Mapping[str, str]


class MineStudioSource:
    """A Source over one folder of LMDB folders, or over those ``below`` it that are named."""

    parser = "LMDB"
    libraries = ("lmdb",)

    def __init__(
        self,
        uri: str,
        root: Path,
        keep_alive: object = None,
        kinds: tuple[str, ...] = (),
        below: tuple[str, ...] = (),
    ) -> None:
        self.uri, self.root, self.kinds, self._below = uri, root, kinds, below
        self._keep_alive = keep_alive
        self._info: SourceInfo | None = None
        self._versions: dict[str, tuple[int, ...]] = {}  # inode, size and time of every file before it was hashed

    def __getstate__(self) -> dict[str, Any]:
        names = ("uri", "root", "kinds")
        kept = {name: getattr(self, name) for name in names}
        return kept | {"below": self._below, "info": self._info, "versions": self._versions}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["uri"], state["root"], None, state["kinds"], state["below"])  # type: ignore[misc]
        self._info, self._versions = state["info"], state["versions"]

    def num_bytes_on_disk(self) -> int:
        """How much is hashed."""
        places = [self.root / place for place in self._below or ("",)]
        return sum(path.stat().st_size for place in places for path in place.glob(f"*/*/{lmdb.DATA}"))

    def check_unchanged(self) -> None:
        """Nothing, if the files are still those whose digest was taken.

        Raises:
            DataError: somebody wrote to one.
        """
        for name, version in self._versions.items():
            if not (self.root / name).is_file() or lmdb.version(self.root / name) != version:
                raise DataError(
                    "an LMDB was changed while it was converted",
                    where=f"{self.uri}/{name}",
                    why="its size or time is not what it was when the digest was taken",
                    fix="run the same command again, when nobody writes to the folder",
                )

    def describe(self) -> SourceInfo:
        """Everything but the values; the digest is over the sha256 of every data.mdb."""
        if self._info is None:
            self._info = self._describe()
        return self._info

    def read(self, episode_id: str, images: bool = True) -> Episode:
        """One episode; without ``images`` only its low-dimensional features.

        Raises:
            DataError: a chunk is missing or unreadable, or holds something else than the first episode.
        """
        length = self._modalities["action"].episodes[episode_id].num_frames
        features = self._actions(episode_id)
        extras: dict[str, bytes] = {}
        if "meta_info" in self._modalities:
            features |= self._meta(episode_id, extras)
        masks: dict[str, RunLengths] = {}
        if "segmentation" in self._modalities:
            chunks = self._values("segmentation", episode_id)
            features[INTERACTION], masks[TARGET] = self._target(chunks, episode_id)
            num_tracks = len(self.describe().schema.masks) - 1
            if num_tracks:
                features |= self._tracks(chunks, episode_id, num_tracks, masks)
            extras |= {f"segmentation.{k:04d}.json": self._json(chunk, episode_id) for k, chunk in enumerate(chunks)}
        if images and (events := self._events.get(episode_id)):
            extras["events.json"] = tagged_json.dumps(events)
        frames = {CAMERA: self._video(episode_id)} if images else {}
        provenance = {
            name: f"{each.episodes[episode_id].folder}#{each.episodes[episode_id].number}"
            for name, each in self._modalities.items()
        }
        return Episode(
            episode_id,
            length,
            features,
            frames,
            "",
            None,
            provenance,
            extras if images else {},
            masks if images else {},
        )

    @cached_property
    def _found(self) -> tuple[dict[str, list[str]], list[str], dict[str, str]]:
        folders: dict[str, list[str]] = {}
        events: list[str] = []
        left_out: dict[str, str] = {}
        for place in self._below or ("",):
            prefix = f"{place}/" if place else ""
            own_folders, own_events, own_left_out = lmdb.find_folders(self.root / place)
            for modality, names in own_folders.items():
                folders.setdefault(modality, []).extend(f"{prefix}{name}" for name in names)
            events += [f"{prefix}{name}" for name in own_events]
            left_out |= {f"{prefix}{name}": why for name, why in own_left_out.items()}
        if self.kinds:
            left_out |= {name: "not chosen" for name in folders if name not in self.kinds}
            folders = {name: each for name, each in folders.items() if name in self.kinds}
            events = events if lmdb.EVENT in self.kinds else []
        return folders, events, left_out

    def events_by_folder(self) -> list[dict[str, list[tuple[str, int]]]]:
        """Episode and frame of every event by name, for each event folder."""
        from tendon.data.sources.minestudio_events import read_events

        return [read_events(self.root, folder, self.uri) for folder in self._found[1]]

    @cached_property
    def _modalities(self) -> dict[str, lmdb.Modality]:
        folders = self._found[0]
        missing = sorted({"action", "image"} - folders.keys())
        if missing:
            raise DataError(
                "a MineStudio dataset needs actions and images",
                where=self.uri,
                why=f"no LMDB folder of {' and '.join(missing)} is there",
                fix="name the folder that holds image (or video) and action",
            )
        modalities = {
            name: lmdb.read_modality(self.root, name, each, self.uri) for name, each in sorted(folders.items())
        }
        sizes = {name: each.chunk_size for name, each in modalities.items()}
        if len(set(sizes.values())) != 1:
            raise self._broken("the chunks of the modalities differ in size", "", f"frames per chunk: {sizes}")
        return modalities

    @cached_property
    def _joined(self) -> tuple[dict[str, int], dict[str, str]]:
        """Length by episode name in order, and why others are dropped."""
        modalities = self._modalities
        lengths: dict[str, int] = {}
        dropped: dict[str, str] = {}
        for episode in sorted(set().union(*(each.episodes for each in modalities.values()))):
            frames = {
                name: each.episodes[episode].num_frames for name, each in modalities.items() if episode in each.episodes
            }
            missing = sorted(modalities.keys() - frames.keys())
            if missing:
                dropped[f"episode {episode}"] = f"it has no {' and no '.join(missing)}"
            elif len(set(frames.values())) != 1:
                dropped[f"episode {episode}"] = "lengths differ: " + ", ".join(f"{k} {v}" for k, v in frames.items())
            elif not any(frames.values()):
                dropped[f"episode {episode}"] = "it has no frames"
            else:
                lengths[episode] = next(iter(frames.values()))
        return lengths, dropped

    @cached_property
    def _events(self) -> dict[str, list[list[Any]]]:
        """``[event, number, frame, value]`` by episode name."""
        events: dict[str, list[list[Any]]] = {}
        for folder in self._found[1]:
            names = {
                key: self._value(folder, key) for key in ("__codebook__",) if key in set(lmdb.keys(self.root, folder))
            }
            codebook = {short: name for name, short in names.get("__codebook__", {}).items()}
            for key in lmdb.keys(self.root, folder):
                match = re.fullmatch(r"\('(.*)', (\d+)\)", key) or re.fullmatch(r'\("(.*)", (\d+)\)', key)
                if match is None:
                    continue
                episode, frame, value = self._value(folder, key)
                name = codebook.get(episode, episode)
                events.setdefault(str(name), []).append([match[1], int(match[2]), frame, value])
        return {name: sorted(each, key=lambda event: (event[0], event[1])) for name, each in events.items()}

    @cached_property
    def _layout(self) -> _Layout:
        lengths, dropped = self._joined
        if not lengths:
            raise DataError(
                "the dataset is empty",
                where=self.uri,
                why=f"no episode is in every modality with the same length; {len(dropped)} were dropped",
                fix="copy the missing parts, or remove the modality that lacks them",
            )
        first = next(iter(lengths))
        action = self._chunk("action", first, 0)
        if not isinstance(action, dict) or not all(isinstance(each, np.ndarray) for each in action.values()):
            raise self._broken("an action is not a dictionary of arrays", first, f"it is a {type(action).__name__}")
        kinds = {str(key): (each.dtype.str, tuple(each.shape[1:])) for key, each in action.items()}
        buttons = tuple(key for key, (dtype, shape) in kinds.items() if not shape and np.dtype(dtype).kind in "biu")
        meta: dict[str, str] = {}
        if "meta_info" in self._modalities:
            frame = self._chunk("meta_info", first, 0)[0]
            meta = {key: np.asarray(frame[key]).dtype.name for key in META_NUMBERS if key in frame}
        return _Layout(buttons, kinds, meta)

    def _describe(self) -> SourceInfo:
        files = [
            f"{folder}/{lmdb.DATA}" for folders in (*self._found[0].values(), self._found[1]) for folder in folders
        ]
        self._versions = {name: lmdb.version(self.root / name) for name in files}
        hashed = Meanwhile(partial(folder_digest, self.root, files))
        lengths, dropped = self._joined
        layout = self._layout
        for key, reason in list(dropped.items())[:MAX_LISTED]:
            log.warning("convert: %s of %s is dropped: %s", key, self.uri, reason)
        left_out = dict(list(dropped.items())[:MAX_LISTED]) | self._found[2]
        if len(dropped) > MAX_LISTED:
            left_out["more episodes"] = f"{len(dropped) - MAX_LISTED} more are dropped for the same reasons"
        for each in self._modalities.values():
            if each.twice:
                left_out[f"{each.name} twice"] = (
                    f"{len(each.twice)} episodes, such as {each.twice[0]}: the last one counts"
                )
        digest, num_bytes = hashed.result()
        digest = digest_of({"minestudio": digest, "kinds": self.kinds}) if self.kinds else digest
        chunk_size = self._modalities["action"].chunk_size
        schema = self._schema(chunk_size)
        metadata = {
            "minestudio": {
                "buttons": list(layout.buttons),
                "action": {key: [dtype, list(shape)] for key, (dtype, shape) in layout.action.items()},
                "chunk_size": chunk_size,
                "modalities": sorted(self._modalities),
                "dropped": len(dropped),
                "timebase": "steps without an action were removed: neighbours may be further apart than 1/20 s",
            }
        }
        episodes = tuple(EpisodeInfo(name, length, ("train",)) for name, length in lengths.items())
        digest = digest_with_features(digest, schema)
        if len(schema.masks) > 1:  # another dataset than the one that an older version made of these bytes
            digest = digest_of({"source": digest, "tracks": len(schema.masks) - 1})
        return SourceInfo(
            "minestudio",
            self.uri,
            digest,
            num_bytes,
            schema,
            episodes,
            metadata,
            left_out,
        )

    def _schema(self, chunk_size: int) -> Schema:
        import io

        import av

        layout = self._layout
        columns: list[Feature] = [column(f"observation.{key}", kind) for key, kind in layout.meta.items()]
        masks = []
        if "segmentation" in self._modalities:
            columns.append(column(INTERACTION, "int8", kind="category", names=INTERACTIONS))
            masks.append(Mask(TARGET, "target", *MASK_SIZE))
            num_tracks = self._most_targets()
            if num_tracks > 1:
                columns.append(column(TRACK_INTERACTIONS, "int8", (num_tracks,), kind="category", names=INTERACTIONS))
                columns.append(column(TRACK_IDS, "int32", (num_tracks,), kind="category"))
                masks += [Mask(f"{TARGETS_PREFIX}{k}", f"target_{k}", *MASK_SIZE) for k in range(num_tracks)]
        if layout.buttons:
            dtype = np.dtype(layout.action[layout.buttons[0]][0]).name
            columns.append(column(BUTTONS, "uint8", (len(layout.buttons),), dtype, names=layout.buttons))
        for key, (kind, shape) in layout.action.items():
            if key not in layout.buttons:
                names = ("pitch", "yaw") if f"action.{key}" == AIM else ()
                columns.append(column(f"action.{key}", np.dtype(kind).name, shape, names=names))
        first = next(iter(self._joined[0]))
        content = self._bytes("image", first, 0)
        try:
            with av.open(io.BytesIO(content)) as container:
                video = container.streams.video[0]
                camera = Camera(
                    CAMERA, "image", video.height, video.width, 3, "mp4", video.codec_context.name,
                    float(video.average_rate or FPS), chunk_size,
                )  # fmt: skip
        except (av.FFmpegError, IndexError) as error:
            raise self._broken("a chunk of video cannot be opened", first, str(error)) from error
        return Schema(tuple(columns), (camera,), FPS, tuple(masks))

    def _actions(self, episode: str) -> dict[str, np.ndarray]:
        layout = self._layout
        chunks = []
        for chunk in self._values("action", episode):
            kinds = {key: (each.dtype.str, tuple(each.shape[1:])) for key, each in chunk.items()}
            if kinds != dict(layout.action):
                odd = sorted(set(kinds.items()) ^ set(layout.action.items()))
                raise self._broken("an action has other keys or types than in the first episode", episode, f"{odd[:3]}")
            chunks.append(chunk)
        joined = {key: np.concatenate([chunk[key] for chunk in chunks]) for key in layout.action}
        actions = {f"action.{key}": each for key, each in joined.items() if key not in layout.buttons}
        if layout.buttons:
            buttons = np.stack([joined[key] for key in layout.buttons], -1)
            if buttons.min(initial=0) < 0 or buttons.max(initial=0) > 255:
                raise self._broken("a button is outside of 0 to 255", episode, f"{buttons.min()} to {buttons.max()}")
            actions[BUTTONS] = buttons.astype(np.uint8)
        return actions

    def _meta(self, episode: str, extras: dict[str, bytes]) -> dict[str, np.ndarray]:
        frames = []
        for k, chunk in enumerate(self._values("meta_info", episode)):
            extras[f"meta_info.{k:04d}.json"] = self._json(chunk, episode)
            frames += chunk
        features = {}
        for key, kind in self._layout.meta.items():
            if any(key not in frame for frame in frames):
                raise self._broken(
                    f"{key} is missing in the meta information of some frames", episode, "the first episode has it"
                )
            features[f"observation.{key}"] = np.array([frame[key] for frame in frames]).astype(kind)
        return features

    def _most_targets(self) -> int:
        """How many interactions a frame has at most, in the whole dataset: every annotation is read once."""
        episodes = self._joined[0]
        frames = (frame for episode in episodes for chunk in self._values("segmentation", episode) for frame in chunk)
        return max((len(frame) for frame in frames), default=0)

    def _tracks(
        self, chunks: list[Any], episode: str, num_tracks: int, masks: dict[str, RunLengths]
    ) -> dict[str, np.ndarray]:
        """Every interaction in a track: its kind and its number ``[T, tracks]``, -1 where a track has none; masks by track.

        An interaction stays in one track; one that begins takes the first that is free, by name. Numbers count the episode's
        interactions from 0, so that two in a row in one track are told apart.
        """
        frames = [frame for chunk in chunks for frame in chunk]
        kinds = np.full((len(frames), num_tracks), NO_TARGET, np.int8)
        numbers = np.full((len(frames), num_tracks), NO_TARGET, np.int32)
        texts = [[""] * len(frames) for _ in range(num_tracks)]
        places: dict[Any, tuple[int, int]] = {}  # interaction to track and number, while it goes on
        count = 0
        for t, frame in enumerate(frames):
            places = {key: place for key, place in places.items() if key in frame}
            free = [k for k in range(num_tracks) if k not in {track for track, _ in places.values()}]
            for key in sorted((key for key in frame if key not in places), key=str):
                places[key] = (free.pop(0), count)
                count += 1
            for key, (track, number) in places.items():
                entry = frame[key]
                kind, texts[track][t] = (key, entry) if isinstance(entry, str) else (entry["obj_id"], entry["rle_mask"])
                kinds[t, track] = INTERACTIONS.index("interact") if kind == INTERACTIONS.index("use") else kind
                numbers[t, track] = number
        try:
            masks |= {f"{TARGETS_PREFIX}{k}": RunLengths.of_text(each) for k, each in enumerate(texts)}
        except ValueError as error:
            raise self._broken("a mask is not understood", episode, f"{type(error).__name__}: {error}") from error
        return {TRACK_INTERACTIONS: kinds, TRACK_IDS: numbers}

    def _target(self, chunks: list[Any], episode: str) -> tuple[np.ndarray, RunLengths]:
        """What is aimed at in every frame: the kind of interaction ``[T]`` and its mask; the rest stays in the extras.

        Several interactions may overlap. Like MineStudio's reader on one window, the episode is walked backwards and an
        interaction is kept while it is annotated; where that reader draws the next one, the first by name is taken.
        """
        frames = [frame for chunk in chunks for frame in chunk]
        kinds, texts = np.full(len(frames), NO_TARGET, np.int8), [""] * len(frames)
        current: Any = None
        try:
            for t in reversed(range(len(frames))):
                if not frames[t]:
                    continue
                if current not in frames[t]:
                    current = min(frames[t], key=str)
                entry = frames[t][current]
                kind, texts[t] = (current, entry) if isinstance(entry, str) else (entry["obj_id"], entry["rle_mask"])
                kinds[t] = INTERACTIONS.index("interact") if kind == INTERACTIONS.index("use") else kind
            return kinds, RunLengths.of_text(texts)
        except (TypeError, KeyError, ValueError) as error:
            raise self._broken("a mask is not understood", episode, f"{type(error).__name__}: {error}") from error

    def _video(self, episode: str) -> tuple[VideoChunk, ...]:
        from tendon.data.mp4 import Mp4Error, read_track

        modality = self._modalities["image"]
        size = modality.chunk_size
        chunks = []
        for start in range(0, modality.episodes[episode].num_frames, size):
            content = self._bytes("image", episode, start)
            try:
                frames = len(read_track(content))
            except Mp4Error as error:
                raise self._broken(
                    "a chunk of video cannot be read", f"{episode}, frame {start}", str(error)
                ) from error
            if frames != size:
                raise self._broken(
                    "a chunk of video has another length", f"{episode}, frame {start}", f"{frames} frames, not {size}"
                )
            chunks.append(VideoChunk(content, start, size))
        return tuple(chunks)

    def _values(self, modality: str, episode: str) -> list[Any]:
        """The values of an episode's chunks, each of whole chunk length."""
        size = self._modalities[modality].chunk_size
        starts = range(0, self._modalities[modality].episodes[episode].num_frames, size)
        chunks = [self._chunk(modality, episode, start) for start in starts]
        for start, chunk in zip(starts, chunks, strict=True):
            lengths = {len(each) for each in chunk.values()} if isinstance(chunk, dict) else {len(chunk)}
            if lengths != {size}:
                raise self._broken(
                    f"a chunk of {modality} has another length",
                    f"{episode}, frame {start}",
                    f"{sorted(lengths)}, not {size}",
                )
        return chunks

    def _chunk(self, modality: str, episode: str, start: int) -> Any:
        place = self._modalities[modality].episodes[episode]
        return self._value(place.folder, str((place.number, start)))

    def _bytes(self, modality: str, episode: str, start: int) -> bytes:
        place = self._modalities[modality].episodes[episode]
        return lmdb.read_bytes(self.root, place.folder, str((place.number, start)), self.uri)

    def _value(self, folder: str, key: str) -> Any:
        return lmdb.read_value(self.root, folder, key, self.uri)

    def _json(self, value: object, episode: str) -> bytes:
        try:
            return tagged_json.dumps(value)
        except TypeError as error:
            raise self._broken("a value cannot be kept", episode, str(error)) from error

    def _broken(self, what: str, where: str, why: str) -> DataError:
        episode = where.partition(",")[0]
        fix = f"data.skip_episodes=[{episode}], or copy the dataset again" if episode else "copy the dataset again"
        return DataError(what, where=f"{self.uri}, {where}" if where else self.uri, why=why, fix=fix)
