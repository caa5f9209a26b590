"""The page of a run while it runs, written by a thread beside the driver.

`report/index.html` is written once, at the start, and asks for `report/live.js` every two seconds
with a <script> element, which a browser allows a page from disk too. The thread writes `live.js`
when something has changed, and keeps to a share of one core. The report takes the place of
index.html at the end. What goes wrong here is said once, and does nothing to the run.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sweep.storage.run_folder import RunFolder
from sweep.storage.status.reader import RunStatus
from trainers import files

if TYPE_CHECKING:  # what it imports takes seconds, which the thread spends
    from sweep.page.view import View

PAGE, DATA, SURFACES = "index.html", "live.js", "live_surfaces.js"
BEFORE = ".before.html"
"""The report of an earlier start: it comes back where this one adds no result."""

MARK = "<!-- a running sweep -->"

EVERY_SECONDS = 2.0
"""From one look to the next, at least; after `LONG_SECONDS` of a run five times as long."""

LONG_SECONDS = 600.0

LONGEST_SILENCE = 45.0
"""Seconds without a write; after 90 the page says that the run gives no sign."""

CPU_SHARE = 0.007
"""Of one core, on average, once the page stands."""

CPU_AT_FIRST = 0.3
"""Seconds of one core that may be used at once, for the first curves and contours."""

MOST_FAILURES = 5
"""In a row, after which the page is left alone."""

Say = Callable[[str], None]


@contextlib.contextmanager
def drawn(folder: RunFolder, plan: str, say: Say) -> Iterator["LivePage"]:
    """Draw the page until the end of the block. `plan` is the content of plan.csv."""
    page = LivePage(folder, plan, say)
    try:
        yield page
    except BaseException as error:
        page.stop(str(error) or "interrupted")
        raise
    page.finish()


class LivePage:
    """The page of one start of the command."""

    def __init__(self, folder: RunFolder, plan: str, say: Say):
        self._folder = folder
        self._plan = plan
        self._say = say
        self._report = folder.path / "report"
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="live page", daemon=True)
        self._note = ""
        self._failures = 0
        self._told: set[str] = set()
        self.begun = False
        self._done_before = 0
        self._view: View | None = None
        self._stands: Callable[[Path], None] | None = None
        self._began = 0.0
        self._contours_took = 0.0
        self._contour_seconds = 0.0
        self._first_map_seconds = 0.0
        self.import_seconds = 0.0
        """CPU seconds of the thread for imports, which the report would make."""
        self.draw_seconds = 0.0
        """Its CPU seconds for all else, up to the last look."""

    @property
    def path(self) -> Path:
        return self._report / PAGE

    def begin(self, note: str, stands: Callable[[Path], None] | None = None) -> None:
        """Show the plan and follow the run. `note`: what goes on before the first trial. `stands`
        is told when there is a page to look at."""
        self.begun, self._note, self._stands = True, note, stands
        self._thread.start()

    def note(self, text: str) -> None:
        """What goes on beside the trials."""
        self._note = text

    def finish(self) -> None:
        """The report is written: the page's own files go, those of a killed start too."""
        self._end()
        for name in (DATA, SURFACES, BEFORE):
            with contextlib.suppress(OSError):
                (self._report / name).unlink(missing_ok=True)

    def stop(self, reason: str) -> None:
        """The run ends without a report: say why, or put back the report of an earlier start."""
        self._end()
        if self.begun:
            self._guarded(lambda: self._leave(reason))

    def _end(self) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(timeout=30)

    def _put_in_place(self) -> None:
        cpu_before = time.thread_time()
        from sweep.page.view import View

        self.import_seconds = time.thread_time() - cpu_before
        if self._over.is_set():
            return
        self._report.mkdir(parents=True, exist_ok=True)
        view = View(self._folder.path)
        run = self._read(view)
        self._done_before = view.ended(run)
        (self._report / SURFACES).unlink(missing_ok=True)
        self._write(view, run)
        if self.path.exists() and MARK not in self.path.read_text(encoding="utf-8")[:200]:
            self.path.replace(self._report / BEFORE)
        files.write_text(self.path, view.page(run, MARK, DATA))
        self._view = view
        if self._stands is not None:
            self._stands(self.path)

    def _leave(self, reason: str) -> None:
        if (view := self._view) is None:
            return
        run, before = view.at_rest(self._read(view)), self._report / BEFORE
        if view.ended(run) == self._done_before and before.exists():
            before.replace(self.path)
            for name in (DATA, SURFACES):
                (self._report / name).unlink(missing_ok=True)
            return
        self._note = f"Stopped: {reason}. The same command goes on from here."
        self._write(view, run, stopped=True)

    def _follow(self) -> None:
        self._began = time.monotonic()
        if not self._guarded(self._put_in_place) or self._view is None:
            return
        self._first_map_seconds = time.thread_time() - self.import_seconds
        pause = EVERY_SECONDS
        while not self._is_over_after(pause):
            if self._guarded(self._look) and self._is_turn_of_contours():
                self._guarded(self._draw_contours)
            if self._failures >= MOST_FAILURES:
                self._say("page: left as it is; the report at the end is not touched by this")
                return
            is_long = time.monotonic() - self._began > LONG_SECONDS
            pause = max(EVERY_SECONDS * (5 if is_long else 1), -self._cpu_left() / CPU_SHARE)

    def _is_over_after(self, pause: float) -> bool:
        """Wait for the next look, with signs of life where it is far off."""
        view = self._view
        assert view is not None
        while pause > LONGEST_SILENCE:
            if self._over.wait(LONGEST_SILENCE):
                return True
            self._guarded(lambda: files.write_text(self._report / DATA, view.sign()))
            pause -= LONGEST_SILENCE
        return self._over.wait(pause)

    def _cpu_left(self) -> float:
        """Seconds that the thread may use now; below 0 where it has used too many."""
        self.draw_seconds = time.thread_time() - self.import_seconds
        ran = time.monotonic() - self._began
        return CPU_AT_FIRST + CPU_SHARE * ran - (self.draw_seconds - self._first_map_seconds)

    def _is_turn_of_contours(self) -> bool:
        """Where time is left for them, or the looks have had more than half of it: on a slow
        machine the looks alone would use all there is."""
        time_left = self._cpu_left()
        looks = self.draw_seconds - self._first_map_seconds - self._contour_seconds
        return time_left >= self._contours_took or self._contour_seconds <= looks

    def _look(self) -> None:
        assert self._view is not None
        self._run = self._read(self._view)
        self._write(self._view, self._run)

    def _draw_contours(self) -> None:
        view, before = self._view, time.thread_time()
        assert view is not None
        if (text := view.contours(self._run)) is not None:
            files.write_text(self._report / SURFACES, text)
            self._write(view, self._run)
            self._contours_took = time.thread_time() - before
        self._contour_seconds += time.thread_time() - before

    def _read(self, view: "View") -> RunStatus:
        path = self._folder.path / "plan.csv"
        return view.read(None if path.exists() else self._plan)

    def _write(self, view: "View", run: RunStatus, stopped: bool = False) -> None:
        if (text := view.text(run, self._note, stopped)) is not None:
            files.write_text(self._report / DATA, text)

    def _guarded(self, act: Callable[[], None]) -> bool:
        """Nothing that goes wrong with the page is the run's."""
        try:
            act()
        except Exception as error:
            self._failures += 1
            if (told := f"{type(error).__name__}: {error}") not in self._told:
                self._told.add(told)
                self._say(f"page: {told}; the run goes on without it")
            return False
        self._failures = 0
        return True
