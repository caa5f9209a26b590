"""Whether a trial that failed is tried again, and on which nodes it is not.

A process that died without a reason, or that stalled, is a fault of its machine where the trial had
got further than before: it uses up no retry. A retry goes to another node first. A node on which
trials fail in a row while others succeed elsewhere gets no further ones, and where the first trials
fail of their machines everywhere, nothing more begins.
"""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from sweep.execution.job import Job, TrialCallback
from sweep.storage.trial_folder import OF_THE_WORK, TrialFolder

BAD_NODE_TRIALS = 3
"""So many trials that fail on a node one after another, without progress, while trials succeed on
another: it is the node."""

MOST_PASSES = 2
"""Passes over several trials that died under one and brought it nowhere, after which it is tried
alone."""

HOPELESS_TRIALS = 3
"""So many trials that fail of their machines, when none has ended well: it is all of them."""


class Retries:
    """The failures of one start of the command."""

    def __init__(
        self,
        jobs: Mapping[str, Job],
        retries: int,
        callback: TrialCallback,
        say: Callable[[str], None],
    ):
        self._jobs = jobs
        self._retries = retries
        self._callback = callback
        self._say = say
        self._used: dict[str, int] = {}
        """Retries by trial."""
        self._furthest: dict[str, list[int]] = {}
        self._passes: dict[str, int] = {}
        """Passes that died, by trial."""
        self._failed_on: dict[str, set[str]] = {}
        """Nodes on which a trial failed."""
        self._in_a_row: dict[str, set[str]] = {}
        """Trials that failed on a node since one ended well there."""
        self._good_nodes: set[str] = set()
        self._names: dict[str, str] = {}
        """Hosts by node."""
        self._of_machines: set[str] = set()
        self._succeeded = False
        self.bad_nodes: set[str] = set()
        self.hopeless = ""
        """Why nothing more should begin."""

    def avoided(self, key: str) -> Collection[str]:
        """Nodes on which the next attempt should not run, where there are others."""
        return sorted(self._failed_on.get(key, set()) | self.bad_nodes)

    def ended(self, key: str) -> None:
        """A trial has ended well."""
        self._succeeded = True
        node = _latest(self._attempts(key), "started").get("node", "")
        self._good_nodes.add(node)
        self._in_a_row.pop(node, None)
        self._look_at_nodes("")

    def again(self, key: str) -> bool:
        """Whether the trial, an attempt of which has failed or died, is to be tried again."""
        self._callback.died(key)
        events = self._attempts(key)
        failure, started = _latest(events, "failed"), _latest(events, "started")
        if failure.get("out_of_time"):
            return False
        if failure.get("phase") == "code":
            self.hopeless = str(failure.get("reason", ""))
            return False
        of_machine = bool(failure.get("died") or failure.get("stalled")) or (
            failure.get("phase") not in OF_THE_WORK
        )
        went_on = self._went_on(key)
        if not (of_machine and went_on):
            self._used[key] = self._used.get(key, 0) + 1
        if not went_on:
            self._note_node(key, started, failure)
        if of_machine and not went_on:
            self._of_machines.add(key)
            self._look_for_hope(failure)
        return self._used.get(key, 0) <= self._retries and not self.hopeless

    def in_another_pass(self, key: str) -> bool:
        """Whether a trial is tried in another pass over several when one has died under it; else it
        is tried alone. It uses up no retry, since another trial may be to blame."""
        self._callback.died(key)
        if not self._went_on(key):
            self._passes[key] = self._passes.get(key, 0) + 1
        return self._passes.get(key, 0) < MOST_PASSES

    def _went_on(self, key: str) -> bool:
        """Whether the trial has got further than any attempt before."""
        progress = TrialFolder(Path(self._jobs[key].folder)).progress()
        before = self._furthest.get(key, [0, 0, 0])
        self._furthest[key] = max(progress, before)
        return progress > before

    def _note_node(self, key: str, started: dict[str, Any], failure: dict[str, Any]) -> None:
        elsewhere = failure.get("on_node", "")
        if node := elsewhere or started.get("node", ""):
            self._names[node] = node[:8] if elsewhere else str(started.get("host", node))
            self._failed_on.setdefault(key, set()).add(node)
            self._in_a_row.setdefault(node, set()).add(key)
            self._look_at_nodes(str(failure.get("reason", "")))

    def _look_at_nodes(self, reason: str) -> None:
        for node, trials in self._in_a_row.items():
            elsewhere = self._good_nodes - {node}
            if len(trials) >= BAD_NODE_TRIALS and elsewhere and node not in self.bad_nodes:
                self.bad_nodes.add(node)
                cause = f" (the last: {reason})" if reason else ""
                self._say(
                    f"node {self._names[node]} ({node[:8]}): {len(trials)} trials failed there in "
                    f"a row{cause}, while others succeed elsewhere; no further trial goes there"
                )

    def _look_for_hope(self, failure: dict[str, Any]) -> None:
        if not self._succeeded and len(self._of_machines) >= HOPELESS_TRIALS:
            self.hopeless = (
                f"{len(self._of_machines)} trials failed of their machines and none ended well; "
                f"the last: {failure.get('reason', 'no reason recorded')}. When that is mended, "
                "the same command goes on"
            )

    def _attempts(self, key: str) -> list[dict[str, Any]]:
        return TrialFolder(Path(self._jobs[key].folder)).attempts()


def _latest(events: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    return next((event for event in reversed(events) if event["event"] == kind), {})
