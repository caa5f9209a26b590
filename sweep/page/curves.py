"""The training loss of trials as they run, read as it grows."""

import contextlib
import json
import math
from pathlib import Path

from analysis.tables.records import training_log

POINTS = 60
"""Of one curve, at most twice as many."""


class LossCurve:
    """Steps and smoothed loss of one trial, thinned."""

    def __init__(self, path: Path):
        """`path` is its metrics.jsonl, which need not exist yet."""
        self._path = path
        self._position = 0
        self._every = 1
        self._lines = 0
        self.steps: list[int] = []
        self.losses: list[float] = []

    def read(self) -> None:
        """Take in the lines that are new; all of them where an attempt has begun again. Of a long
        file that is there already some are read, as evenly apart as the later ones will be."""
        with contextlib.suppress(OSError), open(self._path, "rb") as file:
            size = file.seek(0, 2)
            if size < self._position:
                self.__init__(self._path)
            if not self._position and size > training_log.SMALL:
                sample = training_log.sample(file, POINTS)
                for line in sample.lines:
                    self._add(line)
                self._lines, self._every, self._position = 1, sample.every, sample.end
            file.seek(self._position)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._position += len(line)
                if self._lines % self._every == 0:
                    self._add(line)
                self._lines += 1

    def _add(self, line: bytes) -> None:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            record = json.loads(line)
            step, loss = int(record["step"]), float(record["smoothed_loss"])
            if math.isfinite(loss):
                self._append(step, loss)

    def _append(self, step: int, loss: float) -> None:
        if self.steps and step <= self.steps[-1]:  # taken back to a checkpoint
            kept = sum(one < step for one in self.steps)
            del self.steps[kept:], self.losses[kept:]
        self.steps.append(step)
        self.losses.append(loss)
        if len(self.steps) > 2 * POINTS:
            self._every *= 2
            self.steps, self.losses = self.steps[::2], self.losses[::2]
