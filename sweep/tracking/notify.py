"""Messages to people while a run goes on: `notify:` of the grid.

A thread of the driver follows events.jsonl of the run folder and sends what matters, each thing
once. A target that is down or silent delays nothing but this thread. That is said once in the
terminal, as is a record that cannot be read, which the next look reads again.
"""

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from analysis.benchmarks import task
from sweep.gridfile.keys import apprise_urls
from sweep.gridfile.keys.schema import Grid
from sweep.gridfile.keys.trackers import Event, Notify
from sweep.schedule import spending
from sweep.storage import events
from trainers import files

POLL_SECONDS = 2.0
COST_SECONDS = 60.0
"""Between two sums of what the run has cost."""

FINISH_SECONDS = 10.0
"""For the last messages, after the report."""

NEAR = 0.9
"""Share of a limit from which it is near."""

MANY_DIVERGED = 1 / 3
"""Share of the trials that have ended."""
FEW_TRIALS = 6
"""So many have to have ended before shares are told."""

STOPPED = "Interrupted, by Ctrl-C or by a signal; the same command goes on from here."

Say = Callable[[str], None]


class Message(NamedTuple):
    event: Event
    title: str
    text: str


@contextlib.contextmanager
def following(grid: Grid, run_dir: Path, say: Say) -> Iterator[None]:
    """Follow the run folder until the end of the block, which may hold several rounds."""
    if grid.notify is None:
        yield
        return
    sender = Sender(grid.notify, Story(grid, run_dir), say)
    sender.start()
    try:
        yield
    except Exception as error:
        sender.failed(f"The run cannot go on: {error}")
        raise
    except KeyboardInterrupt:
        sender.stopped = True
        raise
    finally:
        sender.finish()


class Story:
    """What has happened in a run, read from its records since the start of the command."""

    def __init__(self, grid: Grid, run_dir: Path):
        self._grid = grid
        self._run_dir = run_dir
        self._begun = time.monotonic()
        before = events.read(run_dir / "events.jsonl")
        self.read = len(before)
        """Events that were told or passed over."""
        self._states = {event["key"]: event["status"] for event in before if "status" in event}
        """How each trial has ended, earlier starts included."""
        self.started = 0
        """Trials of this start."""
        self._cost: tuple[float, spending.Spent | None] = (-COST_SECONDS, None)
        self._seconds = 0.0
        """That the rounds of the command have taken."""
        self.end: list[Message] = []
        """Of the latest round: the last one is known when the command is over."""

    def news(self, last: bool = False) -> Iterator[Message]:
        """What has happened since the last look; each kind may come again. Where another file could
        not be read, an event is news at the next look; at the `last` one, and where the event is
        not what was written, it is passed over."""
        for event in events.read(self._run_dir / "events.jsonl")[self.read :]:
            try:
                yield from self._of(event)
            except Exception as error:
                if not last and isinstance(error, OSError | files.Damaged):
                    raise
                self.read += 1
                if event.get("event") == "ended" and self.started:
                    self.end = [self.message("ended", "ended", str(error))]
                raise
            self.read += 1
        if self.started and (near := self._near()):
            yield self.message("limit", "a limit is near", near)

    def _of(self, event: dict[str, Any]) -> Iterator[Message]:
        kind = event["event"]
        self.started += kind == "started"
        if "status" in event:
            self._states[event["key"]] = event["status"]
        if kind == "failed":
            text = f"{event['trial']} ({event['key']}): {event['reason']}"
            yield self.message("failed", "a trial has failed", text)
        states = Counter(self._states.values())
        diverged, ended = states["diverged"], states["diverged"] + states["ok"]
        if kind == "done" and ended >= FEW_TRIALS and diverged > MANY_DIVERGED * ended:
            text = f"{diverged} of {ended} trials: the learning rates may be too high."
            yield self.message("diverged", "more than a third of the trials have diverged", text)
        if kind == "begun":
            self.end = []
        if kind == "ended" and self.started:
            seconds = self._seconds + event["duration"]
            self.end = list(self._end(event, seconds))
            self._seconds = seconds

    def _end(self, event: dict[str, Any], seconds: float) -> Iterator[Message]:
        states = ", ".join(f"{count} {state}" for state, count in event["states"].items())
        spent = spending.so_far(self._run_dir).words
        took = f"Took {seconds / 60:,.1f} min; the run has used {spent} so far."
        record = files.read_json(self._run_dir / "report" / "recommendations.json") or {}
        answers = [stage["summary"]["headline"] for stage in record.get("stages", {}).values()]
        report = f"Report: {self._run_dir / 'report' / 'index.html'}"
        limit = [reason] if (reason := event.get("reason")) else []
        text = "\n".join([took, *limit, *answers, report])
        yield self.message("ended", f"ended: {states}", text)
        if reason:
            yield self.message("limit", "a limit has ended the run", reason)
        if record and all(map(decided, record["stages"].values())) and answers:
            yield self.message("decided", "decided", "\n".join(answers))

    def _near(self) -> str:
        limits, hours = self._grid.limits, (time.monotonic() - self._begun) / 3600
        if limits.max_hours and hours >= NEAR * limits.max_hours:
            return f"{hours:.2g} of {limits.max_hours:g} hours (limits.max_hours)"
        if limits.max_trials and self.started >= NEAR * limits.max_trials:
            return f"{self.started} of {limits.max_trials} trials (limits.max_trials)"
        if limits.max_cost and (cost := self._spent().cost or 0.0) >= NEAR * limits.max_cost:
            currency = self._grid.price.currency
            return f"{cost:,.2f} of {limits.max_cost:,.2f} {currency} (limits.max_cost)"
        return ""

    def _spent(self) -> spending.Spent:
        at, spent = self._cost
        if spent is None or time.monotonic() - at >= COST_SECONDS:
            spent = spending.so_far(self._run_dir)
            self._cost = (time.monotonic(), spent)
        return spent

    def message(self, event: Event, what: str, text: str) -> Message:
        return Message(event, f"{self._grid.name}: {what}", text)


def decided(stage: dict[str, Any]) -> bool:
    """Whether a stage of recommendations.json has a best learning rate inside the grid at every
    batch size, for each of its task types and of its benchmarks that have none."""
    rates = stage["learning_rate"]
    alone = [its for name, its in rates["benchmarks"].items() if task(name).task_type == "other"]
    statuses = [rate["status"] for its in [*rates["task_types"].values(), *alone] for rate in its]
    return bool(statuses) and all(status == "interior" for status in statuses)


class Sender:
    """The thread that reads and sends."""

    def __init__(self, notify: Notify, story: Story, say: Say):
        self._notify = notify
        self._story = story
        self._say = say
        self._told: set[str] = set()
        self._down: set[str] = set()
        """Targets and records of which it was said that they cannot be reached or read."""
        self._last: list[Message] = []
        self.stopped = False
        """Whether the command was interrupted."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="notify", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def failed(self, text: str) -> None:
        self._told.discard("failed")
        self._last.append(self._story.message("failed", "the run has failed", text))

    def finish(self) -> None:
        self._stop.set()
        self._thread.join(FINISH_SECONDS)
        if self._thread.is_alive():
            self._say(f"notify: the last messages were not taken in {FINISH_SECONDS:.0f} s")

    def _follow(self) -> None:
        while not self._stop.wait(POLL_SECONDS):
            self._look()
        self._look(last=True)
        self._told.discard("limit")  # a limit that was near may have ended the run
        if self.stopped and self._story.started:
            self._told.discard("failed")
            self._last.append(self._story.message("failed", "the run was stopped", STOPPED))
        self._send([*self._story.end, *self._last])

    def _look(self, last: bool = False) -> None:
        """Send the news, those after an event that is passed over too."""
        read = -1
        while self._story.read > read:
            read = self._story.read
            if self._send(self._story.news(last)):
                return

    def _send(self, messages: Iterable[Message]) -> bool:
        """Returns whether all could be read."""
        try:
            for message in messages:
                if message.event in self._told or message.event not in self._notify.events:
                    continue
                self._told.add(message.event)
                for url in self._notify.to:
                    self._send_to(url, message)
        except Exception as error:
            if (told := f"{type(error).__name__}: {error}") not in self._down:
                self._down.add(told)
                self._say(f"notify: {told}; the run goes on")
            return False
        return True

    def _send_to(self, url: str, message: Message) -> None:
        problem = apprise_urls.send(url, message.title, message.text)
        if problem and url not in self._down:
            self._down.add(url)
            self._say(f"notify: {apprise_urls.masked(url)}: {problem}; the run goes on")
