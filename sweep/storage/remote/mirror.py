"""A folder here that is kept like a folder in an object store (any URL that fsspec knows).

A store has no rename and no append: files are there whole or not, one after another. So what a
record promises goes up before it and goes away after it (`promise`), and what grows is there in
segments (`segments.py`). `light` mirrors hold records alone: of weights a note where they are, of a
checkpoint an empty folder.
"""

import contextlib
import os
import shutil
import tempfile
import threading
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import Any

from sweep.storage.remote.mirror_files import (
    DATA,
    HAPPENED,
    NEVER,
    NOT_IN_LIGHT,
    NOTE,
    OF_TRIALS,
    WEIGHTS,
    Stat,
    aside_of,
    below,
    checkpoints_to_go_on_from,
    is_large,
    is_longer,
    is_own,
    of_checkpoints_cut_off,
    of_ended_trainings,
    promise,
    stat_of,
    version_of,
)
from sweep.storage.remote.object_store import asking, opened, remove
from sweep.storage.remote.segments import Joined, Segments, grows, with_grown
from sweep.storage.trial_folder import REMOVED
from trainers import files

ASIDE = ".aside-"

AT_ONCE = 16
"""Folders that are listed at the same time."""


class Mirror:
    """`here` and the folder at `url`. Names are paths below both, with slashes."""

    def __init__(self, here: Path, url: str, *, light: bool = False):
        self.here = here
        self.url = url
        self.light = light
        self.system, self.path = opened(url)
        self.segments = Segments(here, url, self.system, self.path)
        self._lock = threading.RLock()
        self._known: dict[str, Stat] = {}
        """Files here as they were when they were last what is in the store."""
        self._versions: dict[str, int] = {}
        """What the store said of a file that was fetched."""
        self._looked = False

    def there(self, under: str = "") -> dict[str, Any]:
        """What the store holds below a folder, by name."""
        with asking(self.url):
            objects: Any = self.system.find(self._at(under), detail=True)
        start = f"{self.path}/"
        return {
            path.removeprefix(start): info
            for path, info in objects.items()
            if info["type"] == "file" and path.startswith(start)
        }

    def pull(self, *under: str) -> None:
        """Have here what is there, below these folders or all of it: fetch what is new or other,
        and let go of what is gone: what had come from there or gone there, and at the first look
        each trial, choice and search that is not there."""
        folders = under or ("",)
        with self._lock, ThreadPoolExecutor(AT_ONCE) as pool:
            listed = (one for objects in pool.map(self.there, folders) for one in objects.items())
            remote, grown = with_grown(dict(listed))
            names = [name for name in remote if self._follows(name)]
            new = [name for name in names if self._is_new(name, remote[name])]
            cut_off = of_checkpoints_cut_off(new, remote)
            self._grow({name: grown[name] for name in new if name in grown}, remote)
            self._fetch(sorted(set(new) - cut_off - grown.keys(), key=promise), remote)
            if self.light:
                self._note_weights(folders, remote)
                self._note_checkpoints(folders, remote)
                cut_off |= of_ended_trainings(remote)
            self._known |= dict.fromkeys(cut_off, NEVER)  # so they go at the next push
            if not self._looked:
                for left in self.here.glob(f"{ASIDE}*"):
                    shutil.rmtree(left)
            mine = self._known if self._looked else filter(below(OF_TRIALS), self._scan(""))
            for name in [name for name in filter(below(folders), mine) if name not in remote]:
                if Path(name).name != NOTE and not (self.light and below([DATA])(name)):
                    (self.here / name).unlink(missing_ok=True)
                    self._known.pop(name, None)
            self._looked = True

    def push(self, spared: Collection[str] = (), *, under: str = "", last: bool = False) -> bool:
        """Have there what is here, below a folder or all of it, but for the folders that are
        spared; `last`: what grew in one piece. False where something went away as it was looked at;
        then nothing has gone up."""
        with self._lock, tempfile.TemporaryDirectory(prefix=ASIDE, dir=self.here) as aside:
            here = self._scan(under)
            is_spared = below(spared)
            changed = [name for name in self._changed(here) if not is_spared(name)]
            if last:
                changed += [name for name in here if grows(name) and name not in changed]
            known = filter(below([under]), self._known)
            gone = [name for name in known if name not in here and not is_spared(name)]
            try:
                frozen = self._freeze(changed, here, Path(aside))
            except FileNotFoundError:
                return False
            self._remove([name for name in gone if not is_large(name)])
            for _, some in groupby(sorted(changed, key=promise), promise):
                part = {name: frozen[name] for name in some}
                for name in part:
                    self._known.setdefault(name, NEVER)  # where it fails some may be there
                self._upload(part, last)
                self._known |= {name: here[name] for name in part}
            self._remove([name for name in gone if is_large(name)])
            return True

    def changed(self) -> list[str]:
        """Names of what `push` would bring up."""
        return self._changed(self._scan(""))

    def _at(self, name: str) -> str:
        return f"{self.path}/{name}" if name else self.path

    def _follows(self, name: str) -> bool:
        parts = name.split("/")
        if is_own(name):
            return False
        if not self.light or parts[-1] == NOTE:
            return True
        return parts[0] not in NOT_IN_LIGHT and not {WEIGHTS, "checkpoints"} & set(parts[:-1])

    def _scan(self, under: str) -> dict[str, Stat]:
        local = {}
        for folder, folders, names in os.walk(self.here / under):
            folders[:] = [name for name in folders if not is_own(name)]
            for file in names:
                path = Path(folder, file)
                name = path.relative_to(self.here).as_posix()
                if self._follows(name):
                    with contextlib.suppress(FileNotFoundError):
                        stat = path.stat()
                        local[name] = Stat(stat.st_size, stat.st_mtime_ns, stat.st_ino)
        return local

    def _changed(self, here: dict[str, Stat]) -> list[str]:
        return [
            name
            for name, stat in here.items()
            if self._known.get(name) != stat and not name.endswith(NOTE)
        ]

    def _is_new(self, name: str, info: dict[str, Any]) -> bool:
        if name in self._versions:
            return self._versions[name] != version_of(info)
        if not is_large(name) and not below([DATA])(name):
            return True
        path = self.here / name
        if path.exists() and path.stat().st_size == info["size"]:
            self._known[name] = stat_of(path)
            self._versions[name] = version_of(info)
            return False
        return not (self.light and below([DATA])(name))  # the driver prepares the same again

    def _fetch(self, names: list[str], objects: dict[str, Any]) -> None:
        """All of them aside, then each in its place, what is promised first."""
        if not names:
            return
        asides = [aside_of(self.here / name) for name in names]
        try:
            for aside in asides:
                aside.parent.mkdir(parents=True, exist_ok=True)
            with asking(self.url):
                self.system.get([self._at(name) for name in names], list(map(str, asides)))
            for name, aside in zip(names, asides, strict=True):
                if not is_longer(self.here / name, aside):
                    aside.replace(self.here / name)
                    self._known[name] = stat_of(self.here / name)
                self._versions[name] = version_of(objects[name])
        finally:
            for aside in asides:
                aside.unlink(missing_ok=True)

    def _grow(self, files: dict[str, Joined], remote: dict[str, Any]) -> None:
        try:
            self.segments.fetch(files)
            self._versions |= {name: version_of(remote[name]) for name in files}
        finally:  # whatever came is a beginning of what is there, and need not go up
            for name in files:
                if (self.here / name).exists():
                    self._known[name] = stat_of(self.here / name)

    def _note_weights(self, folders: Collection[str], objects: dict[str, Any]) -> None:
        """A note for weights that are in the store, none for those that are not. Those that were
        to be removed go at the next push."""
        parts = [name.split("/") for name in objects]
        there = {"/".join(part[:3]) for part in parts if len(part) > 3 and part[2] == WEIGHTS}
        left = {name for name in there if f"{name.rpartition('/')[0]}/{REMOVED}" in objects}
        there -= left
        at = f"{WEIGHTS}/{NOTE}"
        noted = {path.parent for path in self._in_trials(folders, at)}
        for folder in noted - {self.here / name for name in there}:
            shutil.rmtree(folder)
            self._known.pop(f"{folder.relative_to(self.here).as_posix()}/{NOTE}", None)
        self._known |= {f"{name}/{NOTE}": NEVER for name in left}
        for name in there:
            note = self.here / name / NOTE
            if not note.exists():
                files.write_text(note, f"{self.url}/{name}\n")
            self._known[f"{name}/{NOTE}"] = stat_of(note)

    def _note_checkpoints(self, folders: Collection[str], objects: dict[str, Any]) -> None:
        """They tell how far a trial has got."""
        there = {self.here / name for name in checkpoints_to_go_on_from(objects)}
        for folder in set(self._in_trials(folders, "checkpoints/*")) - there:
            shutil.rmtree(folder)
        for folder in there:
            folder.mkdir(parents=True, exist_ok=True)

    def _in_trials(self, folders: Collection[str], at: str) -> Iterator[Path]:
        """What lies here at a place of each trial's folder."""
        for folder in folders:
            yield from (self.here / folder).glob(at if folder else f"trials/*/{at}")

    def _freeze(
        self, names: list[str], here: dict[str, Stat], aside: Path
    ) -> dict[str, Path | bytes]:
        """One moment of these files, that they may be removed while they go up. What has happened
        is left out where it came after the look at the rest; curves may be ahead of it."""
        changed: dict[str, Path | bytes] = {}
        for number, name in enumerate(name for name in names if is_large(name)):
            path = changed[name] = aside / str(number)
            try:
                path.hardlink_to(self.here / name)
            except FileNotFoundError:
                raise
            except OSError:  # a file system without links
                changed[name] = self.here / name
        for name in names:
            if name not in changed:
                text = (self.here / name).read_bytes()
                happened = promise(name) == HAPPENED
                changed[name] = text[: here[name].size] if happened else text
        return changed

    def _upload(self, files: dict[str, Path | bytes], last: bool) -> None:
        paths: dict[str, str] = {}
        texts: dict[str, bytes] = {}
        for name, content in files.items():
            if isinstance(content, Path):
                paths[self._at(name)] = str(content)
            elif grows(name):
                self.segments.push(name, content, whole=last)
            else:
                texts[self._at(name)] = content
        with asking(self.url):
            if paths:
                self.system.put(list(paths.values()), list(paths))
            if texts:
                self.system.pipe(texts)

    def _remove(self, names: list[str]) -> None:
        """In the opposite order of uploads. Of a note that is gone, the weights in the store."""
        notes = [name for name in names if Path(name).name == NOTE]
        gone = [name for name in names if name not in notes and not grows(name)]
        for name in filter(grows, names):
            gone += self.segments.objects(name)
        for note in notes:
            gone += self.there(note.removesuffix(f"/{NOTE}"))
        for _, some in groupby(sorted(gone, key=promise, reverse=True), promise):
            with asking(self.url):
                remove(self.system, [self._at(name) for name in some])
        for name in names:
            self._known.pop(name, None)
            self._versions.pop(name, None)
