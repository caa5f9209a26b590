"""The training loss of trials as they run, read as it grows."""

import contextlib
import json
import math
from pathlib import Path
from typing import BinaryIO

from analysis.tables.records import training_log

POINTS = 60
"""Of one curve, at most twice as many."""


class LossCurve:
    """Steps and smoothed loss of one trial, thinned."""

    def __init__(self, path: Path):
        """`path` is its metrics.jsonl, which need not exist yet."""
        self._path = path
        self._reading: training_log.Reading | None = None
        self._every = 1
        self._lines = 0
        self.steps: list[int] = []
        self.losses: list[float] = []

    def read(self) -> None:
        """Take in the lines that are new; all of them where an attempt has replaced the
        file. Of a long file that is there already some are read, as evenly apart as the later ones
        will be."""
        with contextlib.suppress(OSError), open(self._path, "rb") as file:
            if self._reading is not None and not self._reading.stands(file):
                self.__init__(self._path)
            if self._reading is None:
                self._reading = self._begin(file)
            for line in self._reading.lines(file):
                if self._lines % self._every == 0:
                    self._add(line)
                self._lines += 1

    def _begin(self, file: BinaryIO) -> training_log.Reading:
        if file.seek(0, 2) <= training_log.SMALL:
            return training_log.Reading()
        sample = training_log.sample(file, POINTS)
        for line in sample.lines:
            self._add(line)
        self._lines, self._every = 1, sample.every
        return training_log.Reading(sample.end, sample.lines[-1])

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
