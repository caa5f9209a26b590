"""What grows in a trial's folder, in a store that cannot append: only its new bytes travel.

`metrics.jsonl` lies there as objects `metrics.jsonl.segments/<generation>/<start>-<stop>`, each
with these bytes of it. A generation is written by one attempt at the trial and takes nothing back:
a file that was cut, a further attempt and an upload that failed begin another one, with all of the
file in its first segment. The last generation is the file. Segments of the others, as of an attempt
that was superseded while it wrote, are joined to nothing.
"""

import hashlib
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sweep.storage.remote.mirror_files import aside_of
from sweep.storage.remote.object_store import Unreachable, asking, remove

GROWING = ("metrics.jsonl", "log.txt")
FOLDER = ".segments"

SMALL = 32
"""Segments that become one when there are more: a folder of thousands is slow to list."""

AT_A_TIME = 2**28
"""Bytes that are in memory at once while segments come down."""

TRIES = 3


class Generation(NamedTuple):
    """`claim` numbers the attempts at a trial, `number` the generations of one attempt."""

    claim: int
    number: int
    id: str

    @property
    def name(self) -> str:
        return f"{self.claim:06d}-{self.number:04d}-{self.id}"


class Segment(NamedTuple):
    object: str
    start: int
    stop: int


class Joined(NamedTuple):
    """A file as the store has it: segments of one generation, one after another from byte 0."""

    generation: Generation
    segments: tuple[Segment, ...]

    @property
    def size(self) -> int:
        return self.segments[-1].stop


def grows(name: str) -> bool:
    """Whether it is kept in segments: in a trial's folder, seen from there or from the run's."""
    *folders, file = name.split("/")
    return file in GROWING and (not folders or (len(folders) == 2 and folders[0] == "trials"))


def is_segment(name: str) -> bool:
    folder, _, _ = name.rpartition("/")
    return grows(folder.rpartition("/")[0].removesuffix(FOLDER)) and f"{FOLDER}/" in name


def joined(listed: Iterable[str]) -> dict[str, Joined]:
    """The files whose segments are among these objects."""
    by_file: dict[str, dict[Generation, list[Segment]]] = defaultdict(lambda: defaultdict(list))
    for name in filter(is_segment, listed):
        folder, _, part = name.rsplit("/", 2)
        segment = Segment(name, *map(int, part.split("-")))
        by_file[folder.removesuffix(FOLDER)][_generation(name)].append(segment)
    files = {}
    for file, generations in by_file.items():
        chains = [Joined(one, _chain(segments)) for one, segments in generations.items()]
        if whole := [chain for chain in chains if chain.segments]:
            # of two attempts that began in one moment, the one that goes on has more
            files[file] = max(whole, key=lambda one: (*one.generation[:2], one.size))
    return files


def with_grown(listed: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Joined]]:
    """What a store lists, with the files that grow in the place of their segments; and these."""
    grown = joined(listed)
    rest = {name: info for name, info in listed.items() if not is_segment(name)}
    return rest | {name: {"type": "file", **one._asdict()} for name, one in grown.items()}, grown


def _generation(segment: str) -> Generation:
    claim, number, by = segment.split("/")[-2].split("-", 2)
    return Generation(int(claim), int(number), by)


def _chain(segments: list[Segment]) -> tuple[Segment, ...]:
    """From byte 0 on, without what was joined to a longer one meanwhile."""
    longest: dict[int, Segment] = {}
    for segment in sorted(segments, key=lambda one: one.stop):
        longest[segment.start] = segment
    chain: list[Segment] = []
    while (following := longest.pop(chain[-1].stop if chain else 0, None)) is not None:
        chain.append(following)
    return tuple(chain)


class _Sent(NamedTuple):
    """What this process has brought up of a file."""

    generation: Generation
    segments: tuple[Segment, ...]
    small: int
    """The last so many of them were not joined yet."""
    digest: str


class Segments:
    """The growing files of the folder `here`, and of the one at `path` in a store."""

    def __init__(self, here: Path, url: str, system: Any, path: str):
        self.here, self.url, self.system, self.path = here, url, system, path
        self.claim = 0
        """Of the attempt that writes; see `Generation`."""
        self._id = uuid.uuid4().hex[:8]
        self._number = 0
        self._sent: dict[str, _Sent] = {}

    def push(self, name: str, content: bytes, *, whole: bool = False) -> None:
        """Bring up what is new, or all of it where it is not what went up with more behind it;
        `whole`: and leave one segment."""
        sent = self._sent.pop(name, None)  # after an upload that fails all is begun anew
        gone: list[str] = []
        if sent is None or sent.digest != _digest(memoryview(content)[: sent.segments[-1].stop]):
            there = self.objects(name)
            sent = _Sent(self._next(there), (), 0, "")
            gone = [path for path in there if not is_segment(path) or _is_before(path, sent)]
        new = not sent.segments or sent.segments[-1].stop < len(content)
        replaced = sent.small if sent.small + new > SMALL else 0
        if whole:
            replaced = len(sent.segments)
        if new or replaced > 1:
            kept = sent.segments[: len(sent.segments) - replaced]
            start = kept[-1].stop if kept else 0
            at = f"{name}{FOLDER}/{sent.generation.name}/{start:012d}-{len(content):012d}"
            with asking(self.url):
                self.system.pipe_file(f"{self.path}/{at}", content[start:])
            gone += [
                segment.object for segment in sent.segments[len(kept) :] if segment.object != at
            ]
            segments = (*kept, Segment(at, start, len(content)))
            small = 0 if replaced else sent.small + 1
            sent = _Sent(sent.generation, segments, small, _digest(content))
        self.remove(gone)
        self._sent[name] = sent

    def fetch(self, files: Mapping[str, Joined]) -> None:
        """Have these files here as the store has them.

        Raises:
            Unreachable: the store does not give them.
        """
        for _ in range(TRIES):
            if not (missing := self._fetch(files)):
                return
            files = {
                name: again
                for name in missing
                if (again := joined(self.objects(name)).get(name)) is not None
            }
        raise Unreachable(f"{self.url}: segments of {', '.join(files)} go away while they are read")

    def objects(self, name: str) -> list[str]:
        """What the store holds of a file: its segments, and all of it as earlier versions left
        it."""
        with asking(self.url):
            found = [
                path
                for at in (f"{name}{FOLDER}", name)
                for path in self.system.find(f"{self.path}/{at}")
            ]
        return [path.removeprefix(f"{self.path}/") for path in found]

    def remove(self, objects: list[str]) -> None:
        with asking(self.url):
            remove(self.system, [f"{self.path}/{name}" for name in objects])

    def _next(self, there: list[str]) -> Generation:
        """Later than all that the attempt has begun, and than what `there` is without one."""
        before = [file.generation for file in joined(there).values()]
        claim = self.claim or max((generation.claim for generation in before), default=0)
        numbers = (generation.number for generation in before if generation.claim == claim)
        self._number = 1 + max(self._number, *numbers, 0)
        return Generation(claim, self._number, self._id)

    def _fetch(self, files: Mapping[str, Joined]) -> list[str]:
        """The names of those that were not there any more as they were listed."""
        missing: list[str] = []
        for batch in _batches(self._ranges(name, file) for name, file in files.items()):
            ranges = [part for _, parts in batch for part in parts]
            paths = [f"{self.path}/{part.object}" for part in ranges]
            with asking(self.url):
                texts: list[Any] = self.system.cat_ranges(
                    paths, [part.start for part in ranges], [part.stop for part in ranges]
                )
                for text in texts:
                    if isinstance(text, Exception) and not isinstance(text, FileNotFoundError):
                        raise text
            left = iter(texts)
            for name, parts in batch:
                content = [next(left) for _ in parts]
                if any(isinstance(text, Exception) for text in content):
                    missing.append(name)
                else:
                    self._write(name, files[name].generation, b"".join(content))
        return missing

    def _ranges(self, name: str, file: Joined) -> tuple[str, list[Segment]]:
        """Of which bytes of which objects the file here is short."""
        path = self.here / name
        have = path.stat().st_size if self._is_of(name, file.generation) else 0
        return name, [
            Segment(segment.object, max(have - segment.start, 0), segment.stop - segment.start)
            for segment in file.segments
            if segment.stop > have
        ]

    def _write(self, name: str, generation: Generation, content: bytes) -> None:
        """Killed anywhere in it, the file here is what it was, or has some of the bytes more."""
        path, mark = self.here / name, self._mark(name)
        if self._is_of(name, generation):
            with open(path, "ab") as file:
                file.write(content)
            return
        aside = aside_of(path)
        aside.parent.mkdir(parents=True, exist_ok=True)
        try:
            aside.write_bytes(content)
            mark.unlink(missing_ok=True)
            aside.replace(path)
            mark.write_text(generation.name)
        finally:
            aside.unlink(missing_ok=True)

    def _is_of(self, name: str, generation: Generation) -> bool:
        """Whether the file here was begun with bytes of this generation, and so goes on with
        it."""
        try:
            return self._mark(name).read_text() == generation.name and (self.here / name).exists()
        except FileNotFoundError:
            return False

    def _mark(self, name: str) -> Path:
        path = self.here / name
        return path.with_name(f".{path.name}.generation")


def _batches(
    files: Iterable[tuple[str, list[Segment]]],
) -> Iterator[list[tuple[str, list[Segment]]]]:
    """As many files together as fit in memory."""
    batch, size = [], 0
    for name, parts in files:
        batch.append((name, parts))
        size += sum(part.stop - part.start for part in parts)
        if size > AT_A_TIME:
            yield batch
            batch, size = [], 0
    yield batch


def _is_before(segment: str, sent: _Sent) -> bool:
    """Not so what an attempt has written that has superseded this one."""
    return _generation(segment)[:2] < sent.generation[:2]


def _digest(content: bytes | memoryview) -> str:
    return hashlib.sha256(content).hexdigest()
