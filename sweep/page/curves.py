"""The training loss of trials as they run, read as it grows."""

import contextlib
import json
import math
from pathlib import Path

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
        """Take in the lines that are new; all of them where an attempt has begun again."""
        with contextlib.suppress(OSError), open(self._path, "rb") as file:
            if file.seek(0, 2) < self._position:
                self.__init__(self._path)
            file.seek(self._position)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._position += len(line)
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    record = json.loads(line)
                    self._add(int(record["step"]), float(record["smoothed_loss"]))

    def _add(self, step: int, loss: float) -> None:
        self._lines += 1
        if (self._lines - 1) % self._every or not math.isfinite(loss):
            return
        if self.steps and step <= self.steps[-1]:  # taken back to a checkpoint
            kept = sum(one < step for one in self.steps)
            del self.steps[kept:], self.losses[kept:]
        self.steps.append(step)
        self.losses.append(loss)
        if len(self.steps) > 2 * POINTS:
            self._every *= 2
            self.steps, self.losses = self.steps[::2], self.losses[::2]
