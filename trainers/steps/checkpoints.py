"""What a killed training goes on from: `folder`/step-00000123/, whole and checked, or not there.

A checkpoint has tensors.safetensors, state.json and, over both, checksums.json. It is written
aside, flushed to disk and renamed, so a killed save leaves the earlier ones as they were; what the
disk damages later is found by the checksums. Nothing is pickled.
"""

import hashlib
import json
import shutil
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from trainers import files
from trainers.processes import attempt

KEPT = 2
"""The newest may be damaged; the one before it is what that costs."""

STALE_SECONDS = 600.0
"""A part file of another attempt that was not written to for so long is nobody's any more."""

FORMAT = 1
"""Raised when an older checkpoint would be misread."""

TENSORS, STATE, CHECKSUMS = "tensors.safetensors", "state.json", "checksums.json"


class Checkpoint(NamedTuple):
    """`tensors` are mapped from the file and read when they are used; copy, do not write to them.

    `state` is as JSON gives it back: keys are text and tuples are lists.
    """

    step: int
    tensors: dict[str, torch.Tensor]
    state: dict[str, Any]
    path: Path


class Found(NamedTuple):
    """The newest whole checkpoint, if any, and why each newer one was refused, newest first."""

    checkpoint: Checkpoint | None
    refused: tuple[str, ...]


class _Damaged(Exception):
    pass


def save(folder: Path, step: int, tensors: dict[str, torch.Tensor], state: dict[str, Any]) -> Path:
    """Write a checkpoint and let go of all but the one before it; returns where it lies.

    No two tensors may share memory: of tied weights, give one. Later steps go too: whoever saves
    step 5 did not go on from step 9, so that one was refused.

    Raises:
        OSError: it could not be written (disk full); the earlier ones are as they were.
        Superseded: another attempt holds the trial folder.
    """
    attempt.check()
    folder.mkdir(parents=True, exist_ok=True)
    _remove(_unused_parts(folder))
    target, aside = folder / f"step-{step:08}", folder / f".{step}.{attempt.name()}.new.part"
    try:
        aside.mkdir()
        _write_tensors(aside / TENSORS, tensors)
        _write_json(aside / STATE, state)
        digests = {name: _digest(aside / name) for name in (TENSORS, STATE)}
        _write_json(aside / CHECKSUMS, {"format": FORMAT, "step": step, "sha256": digests})
        files.fsync(aside)
        attempt.check()
    except BaseException:
        _remove([aside])
        raise
    if target.exists():
        target.rename(folder / f".{step}.{attempt.name()}.old.part")
    aside.rename(target)
    files.fsync(folder)
    steps = _steps(folder)
    kept = [number for number in steps if number <= step][-KEPT:]
    _remove([path for number, path in steps.items() if number not in kept])
    _remove(_unused_parts(folder))
    return target


def newest(folder: Path) -> Found:
    """The checkpoint to go on from. Every byte of it is checked before anything of it is used."""
    refused = []
    for step, path in reversed(_steps(folder).items()):
        try:
            return Found(_read(path, step), tuple(refused))
        except (_Damaged, OSError, ValueError, SafetensorError) as error:
            refused.append(f"{path.name}: {error}")
    return Found(None, tuple(refused))


def clear(folder: Path) -> None:
    """Remove all checkpoints; their training has ended."""
    shutil.rmtree(folder, ignore_errors=True)


def _read(path: Path, step: int) -> Checkpoint:
    declared = _declared(path, step)
    for name, digest in declared.items():
        if _digest(path / name) != digest:
            raise _Damaged(f"{name} is not what was written")
    state = json.loads((path / STATE).read_bytes())
    return Checkpoint(step, load_file(path / TENSORS), state, path)


def _declared(path: Path, step: int) -> dict[str, str]:
    """The checksums, if they are those of this step and of all the files."""
    try:
        match json.loads((path / CHECKSUMS).read_bytes()):
            case {"format": form, "step": at, "sha256": {**digests}} if (form, at) == (
                FORMAT,
                step,
            ):
                if digests.keys() == {TENSORS, STATE}:
                    return digests
    except ValueError:
        pass
    raise _Damaged(f"{CHECKSUMS} is damaged, or of another format than {FORMAT}")


def _steps(folder: Path) -> dict[int, Path]:
    """Oldest first."""
    states = {}
    for path in folder.glob("step-*"):
        number = path.name.removeprefix("step-")
        if number.isdecimal():
            states[int(number)] = path
    return dict(sorted(states.items()))


def _write_tensors(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    try:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    except SafetensorError as error:
        raise OSError(f"{path}: {error}") from error
    files.fsync(path)


def _write_json(path: Path, record: dict[str, Any]) -> None:
    path.write_text(json.dumps(record), encoding="utf-8")
    files.fsync(path)


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unused_parts(folder: Path) -> list[Path]:
    """Part files of this attempt, and those that nobody has written to for long."""
    return [
        path
        for path in folder.glob(".*.part")
        if f".{attempt.name()}." in path.name or time.time() - _changed(path) > STALE_SECONDS
    ]


def _changed(path: Path) -> float:
    """When a folder or a file in it was last written to; now where it goes meanwhile."""
    try:
        return max(file.stat().st_mtime for file in (path, *path.glob("*")))
    except FileNotFoundError:
        return time.time()


def _remove(paths) -> None:
    for path in list(paths):
        shutil.rmtree(path, ignore_errors=True)
