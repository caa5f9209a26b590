"""What the page of a running sweep costs: CPU seconds of its thread against the run.

    python -m tests.bench.bench_page                     120 trials of the tiny model, minutes
    python -m tests.bench.bench_page --trials 400 --steps 2

The grid runs on Ray as `python -m sweep.run` does it, with the driver in this process, so that its
page's thread can be asked. Imports are told apart: the report at the end would make them. The aim:
less than 1 % of the run's wall time, of one core.
"""

import argparse
import contextlib
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from sweep import drive
from sweep.gridfile import load
from sweep.options import Options
from sweep.page import live
from sweep.page.live import LivePage
from sweep.plan import trials as plan
from sweep.storage.run_log import RunConsole

SIZES = (4, 8, 16, 32)

GRID = """\
name: page
model: tiny
stages:
  sft:
    kind: sft
    data: {{name: world:sft, examples: 300}}
    steps: {steps}
    max_length: 128
    heldout: 8
    grid:
      learning_rate: {{log: [1.0e-5, 1.0e-2], count: {rates}}}
      batch_size: [4, 8, 16, 32]
evaluate: {{benchmarks: [world_choice], limit: 16}}
resources: {{cpus_per_trial: 1}}
"""


@contextlib.contextmanager
def asked(pages: list[LivePage]) -> Iterator[None]:
    """Has the pages that are drawn within the block."""
    drawn = live.drawn

    @contextlib.contextmanager
    def kept(*arguments) -> Iterator[LivePage]:
        with drawn(*arguments) as page:
            pages.append(page)
            yield page

    live.drawn = kept
    try:
        yield
    finally:
        live.drawn = drawn


def cpu_seconds() -> float:
    """Of this process, and of those it started that have ended."""
    used = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--trials", type=int, default=120)
    parser.add_argument("--steps", type=int, default=20, help="of each trial")
    given = parser.parse_args()
    pages: list[LivePage] = []
    with tempfile.TemporaryDirectory() as place, asked(pages):
        file = Path(place) / "page.yaml"
        file.write_text(GRID.format(steps=given.steps, rates=max(given.trials // len(SIZES), 2)))
        grid = load.load(file)
        began, console = time.monotonic(), RunConsole(quiet=True)
        planned = plan.trials(grid)
        drive.drive(grid, planned, Path(place) / "page", Options(), console)
        wall, used = time.monotonic() - began, cpu_seconds()
    (page,) = pages
    Console(highlight=False).print(
        f"{len(planned)} trials in {wall:.0f} s: the page took {page.draw_seconds:.2f} s of CPU, "
        f"{page.draw_seconds / wall:.2%} of the wall time, and {page.import_seconds:.2f} s for "
        f"imports; the whole command {used:.0f} s"
    )


if __name__ == "__main__":
    main()
