"""The data of a whole sweep -> tokens, once, over all cores, before any trial.

`preparing` runs this module as a process of its own: it forks, and whoever calls it loads no torch.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path

from trainers.data.row_counts import Preparation, too_few
from trainers.models import load
from trainers.processes import devices
from trainers.specs.fields import Strict
from trainers.specs.kinds import StageSpec

SECONDS_BETWEEN_LINES = 5.0


class PrepareFailed(Exception):
    """The data cannot be had or cannot be used; the message names it and says why."""


class Request(Strict):
    """Specs whose data is to be prepared for one model; those with equal data share it."""

    model: str
    revision: str | None
    specs: tuple[StageSpec, ...]
    templates: tuple[str | None, ...] = ()
    """For each spec the file of the chat template that an earlier stage gave the model, if any."""
    cache: str


@contextmanager
def preparing(request: Request) -> Iterator[Callable[[], list[Preparation]]]:
    """Prepare in a process of its own, on all cores; what is there already is only opened. Yields
    what waits for its end.

    Raises:
        PrepareFailed: by the wait; the data cannot be had or cannot be used.
    """
    environment = os.environ | {
        "TOKENIZERS_PARALLELISM": "false",  # its threads would not survive the forks
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    with tempfile.TemporaryFile("w+") as asked:
        asked.write(request.model_dump_json())
        asked.seek(0)
        process = subprocess.Popen(
            [sys.executable, "-m", "trainers.data.prepare_process"],
            stdin=asked,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )

    def wait() -> list[Preparation]:
        said, _ = process.communicate()
        if process.returncode:
            raise PrepareFailed(said.strip() or "preparing data ended without a word; see above")
        return [Preparation.model_validate(record) for record in json.loads(said.splitlines()[-1])]

    try:
        yield wait
    finally:
        process.kill()
        process.wait()


def prepare_here(request: Request, processes: int = 1) -> list[Preparation]:
    """The same in this process, which may fork.

    Raises:
        PrepareFailed: the data cannot be had or cannot be used.
    """
    from trainers.data import prepare
    from trainers.data.rows import sources

    try:
        tokenizer, cache = load.tokenizer(request.model, request.revision), Path(request.cache)
        preparations = []
        for spec, template in zip_longest(request.specs, request.templates):
            speaking = prepare.speaking(tokenizer, template)
            prepared = prepare.prepare(spec, speaking, cache, processes, _Line()).preparation
            if problem := too_few(spec, prepared.total.train):
                raise PrepareFailed("\n".join([problem, *prepared.lines()]))
            preparations.append(prepared)
        return preparations
    except (sources.DataUnavailable, load.ModelUnavailable, ValueError) as error:
        raise PrepareFailed(str(error)) from error
    except OSError as error:  # Arrow's own name no file
        named = "" if error.filename else f"{request.cache}: "
        raise PrepareFailed(f"{named}{error}") from error


class _Line:
    """Every few seconds a line on stderr: rows done, rows in all, rows a second."""

    def __init__(self) -> None:
        self._started = self._last = time.monotonic()

    def __call__(self, done: int, rows: int) -> None:
        now = time.monotonic()
        if now - self._last > SECONDS_BETWEEN_LINES:
            self._last = now
            speed = done / (now - self._started)
            left = (rows - done) / speed
            print(
                f"data: {done:,} of {rows:,} rows, {speed:,.0f} a second, {left:,.0f} s to go",
                file=sys.stderr,
            )


def main() -> int:
    request = Request.model_validate_json(sys.stdin.read())
    try:
        preparations = prepare_here(request, devices.cores())
    except PrepareFailed as error:
        print(error)
        return 1
    print(json.dumps([preparation.model_dump() for preparation in preparations]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
