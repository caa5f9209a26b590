"""Which trial runs next, with made-up trials and a made-up truth about their weights."""

import pytest

from sweep.plan.trials import Trial
from sweep.schedule.queue import Pending, TrialQueue
from trainers.specs.data import Model


def trial(key: str, parent: str | None = None) -> Trial:
    model = Model(name="tiny")
    return Trial(key=key, parent=parent, stage="s", arm="", model=model, spec=None)


FAMILY = [trial("a"), trial("b", "a"), trial("c", "a"), trial("d", "b"), trial("e")]


class Weights:
    """What has been trained; trials named in `broken` never have weights."""

    def __init__(self, *broken: str):
        self.trained: set[str] = set()
        self.broken = broken

    def usable(self, key: str) -> bool:
        return key in self.trained and key not in self.broken


def drain(frontier: TrialQueue, weights: Weights) -> list[str]:
    """Run what may run, one after another, until nothing may."""
    order = []
    while (found := frontier.next()) is not None:
        order.append(found.key)
        weights.trained.add(found.key)
        frontier.ended(found.key)
    return order


def test_each_trial_is_handed_out_once_and_parents_first():
    weights = Weights()
    frontier = TrialQueue(Pending(FAMILY, weights.usable))
    assert drain(frontier, weights) == ["a", "b", "c", "d", "e"]
    assert frontier.exhausted
    assert not frontier.blocked
    assert frontier.next() is None


def test_child_waits_for_its_parents_weights_and_not_for_its_scores():
    weights = Weights()
    frontier = TrialQueue(Pending(FAMILY, weights.usable))
    assert frontier.next().key == "a"
    assert frontier.next().key == "e", "what has no parent need not wait"
    assert frontier.next() is None
    assert not frontier.exhausted
    weights.trained.add("a")
    assert frontier.next().key == "b", "its parent is still being scored"
    frontier.ended("a")
    assert frontier.next().key == "c"
    assert frontier.next() is None
    weights.trained.add("b")
    assert frontier.next().key == "d"
    assert frontier.exhausted


def test_child_starts_at_once_where_its_parent_had_ended_before():
    assert TrialQueue(Pending([trial("b", "a")], lambda key: key == "a")).next().key == "b"


@pytest.mark.parametrize("order", [FAMILY, FAMILY[::-1]], ids=["parents first", "children first"])
def test_descendants_of_what_has_no_weights_are_blocked_and_name_their_parent(order):
    weights = Weights("a")
    frontier = TrialQueue(Pending(order, weights.usable))
    assert set(drain(frontier, weights)) == {"a", "e"}
    while not frontier.exhausted:
        assert frontier.next() is None
    assert frontier.blocked == {"b": "a", "c": "a", "d": "b"}


def test_only_descendants_are_blocked():
    weights = Weights("b")
    frontier = TrialQueue(Pending(FAMILY, weights.usable))
    assert drain(frontier, weights) == ["a", "b", "c", "e"]
    assert frontier.blocked == {"d": "b"}


def test_nothing_pending_is_exhausted_from_the_start():
    frontier = TrialQueue(Pending([], lambda key: True))
    assert frontier.exhausted
    assert frontier.next() is None


def test_thousands_that_wait_are_not_asked_about_again_and_again():
    """Each question opens a file, and Tune asks for a trial at every step."""
    parents = [trial(f"p{n}") for n in range(10)]
    children = [trial(f"{parent.key}-{n}", parent.key) for parent in parents for n in range(20)]
    asked: list[str] = []

    def usable(key: str) -> bool:
        asked.append(key)
        return False

    frontier = TrialQueue(Pending([*parents, *children], usable))
    for _ in parents:
        assert frontier.next() is not None
    before = len(asked)
    assert frontier.next() is None
    assert len(asked) - before == len(parents)
    assert before <= len(parents)


def test_what_is_trained_is_scored_though_its_parents_weights_are_gone():
    weights = Weights("a")
    weights.trained |= {"a", "b"}
    queue = TrialQueue(Pending([trial("b", "a"), trial("c", "a")], weights.usable))
    assert queue.next().key == "b"
    assert queue.next() is None
    assert queue.blocked == {"c": "a"}


def needing(weights: Weights, *trials: Trial) -> Pending:
    """The trials, each of which needs the reference pass `r` beside its parent `a`."""
    needs = {one.key: ["r"] for one in trials}
    return Pending([*trials, trial("a"), trial("r", "a")], weights.usable, needs=needs)


def test_a_trial_waits_for_the_pass_that_it_needs_and_holds_no_place_meanwhile():
    weights = Weights()
    queue = TrialQueue(needing(weights, trial("b", "a"), trial("c", "a")))
    assert queue.next().key == "a"
    weights.trained.add("a")
    assert queue.next().key == "r", "its parent is usable, and others wait for it"
    assert queue.next() is None
    assert not queue.exhausted
    weights.trained.add("r")
    queue.ended("r")
    assert [queue.next().key, queue.next().key] == ["b", "c"]


def test_a_pass_that_fails_blocks_what_needs_it_and_nothing_else():
    weights = Weights("r")
    queue = TrialQueue(needing(weights, trial("b", "a"), trial("c", "a")))
    assert drain(queue, weights) == ["a", "r"]
    assert queue.blocked == {"b": "r", "c": "r"}
    assert queue.exhausted


class Column:
    """A rule by which trials whose keys begin with one letter share a pass."""

    def key(self, trial: Trial) -> str:
        return trial.key[0]

    def size(self, trial: Trial, alike: int, ready: int, free: int) -> int:
        self.asked = (alike, ready, free)
        return min(alike, 3)


def columns(weights: Weights, *trials: Trial, **asks) -> TrialQueue:
    return TrialQueue(Pending(trials, weights.usable, bundles=Column(), **asks))  # pyright: ignore[reportArgumentType]


def test_companions_share_the_pass_of_the_trial_that_was_handed_out_and_are_handed_out_once():
    queue = columns(Weights(), *map(trial, ["a1", "b1", "a2", "a3", "a4"]))
    first = queue.next()
    assert first is not None and first.key == "a1"
    assert [one.key for one in queue.companions(first, 2)] == ["a2", "a3"]
    assert queue.pending.bundles.asked == (4, 5, 2)
    assert queue.running == {"a1", "a2", "a3"}
    assert drain(queue, Weights()) == ["b1", "a4"]


def test_companions_are_ready_and_not_trained():
    weights = Weights()
    weights.trained |= {"a2", "p"}
    late = trial("a3", "q")
    queue = columns(weights, trial("a1"), trial("a2"), late, trial("q"), trial("a4", "p"))
    assert queue.next().key == "q", "another waits for it"
    first = queue.next()
    assert [one.key for one in queue.companions(first, 1)] == ["a4"]
    trained = queue.next()
    assert trained.key == "a2" and queue.companions(trained, 1) == []


def test_companions_are_as_many_as_limits_allow():
    may = iter([True, True, False])
    queue = columns(
        Weights(), *map(trial, ["a1", "a2", "a3", "a4"]), may_start=lambda trial: next(may)
    )
    assert [one.key for one in queue.companions(queue.next(), 1)] == ["a2"]
    assert queue.exhausted


def test_without_a_rule_there_are_no_companions():
    queue = TrialQueue(Pending([trial("a1"), trial("a2")], Weights().usable))
    assert queue.companions(queue.next(), 1) == []
