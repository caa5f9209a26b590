"""Which trials that have failed the driver at work tries again, from events.jsonl."""

from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

from analysis.tables.records.training_log import Reading, objects
from sweep.storage import durations
from sweep.storage.driver_signs import Driver
from trainers import files


class Again:
    """Reads the events as they grow."""

    def __init__(self, path: Path):
        self._path = path
        self._begin()

    def _begin(self) -> None:
        self._reading = Reading()
        self._begun = 0.0
        self._keys: set[str] = set()

    def keys(self, driver: Driver) -> Collection[str]:
        """None of an earlier driver.

        Raises:
            Damaged: an event is not what was written.
        """
        with suppress(FileNotFoundError), open(self._path, "rb") as file:
            if not self._reading.stands(file):
                self._begin()
            with files.shaped(self._path):
                for event in objects(self._reading.lines(file)):
                    self._take(event)
        return self._keys if driver.at_work and self._begun >= driver.since else ()

    def _take(self, event: dict[str, Any]) -> None:
        match event.get("event"):
            case "begun":
                self._begun = durations.time_of(event)
                self._keys = set(event.get("again", []))
            case "retried":
                self._keys.add(event["key"])
            case "failed" | "done":
                self._keys.discard(event["key"])
