"""Which trial runs next, with made-up trials and a made-up truth about their weights."""

import pytest

from sweep.frontier import Frontier
from sweep.grid import Model
from sweep.plan import Trial


def trial(key: str, parent: str | None = None) -> Trial:
    model = Model(name="tiny")
    return Trial(key=key, parent=parent, stage="s", arm="", model=model, spec=None)


FAMILY = [trial("a"), trial("b", "a"), trial("c", "a"), trial("d", "b"), trial("e")]


def drain(frontier: Frontier) -> list[str]:
    """Run what may run, one after another, until nothing may."""
    order = []
    while (found := frontier.next()) is not None:
        order.append(found.key)
        frontier.ended(found.key)
    return order


def test_each_trial_is_handed_out_once_and_parents_first():
    frontier = Frontier(FAMILY, usable=lambda key: True)
    assert drain(frontier) == ["a", "b", "c", "d", "e"]
    assert frontier.exhausted
    assert not frontier.blocked
    assert frontier.next() is None


def test_child_waits_while_its_parent_runs():
    frontier = Frontier(FAMILY, usable=lambda key: True)
    assert frontier.next().key == "a"
    assert frontier.next().key == "e", "what has no parent need not wait"
    assert frontier.next() is None
    assert not frontier.exhausted
    frontier.ended("a")
    assert [frontier.next().key, frontier.next().key] == ["b", "c"]
    assert frontier.next() is None
    frontier.ended("b")
    assert frontier.next().key == "d"
    assert frontier.exhausted


def test_child_starts_at_once_where_its_parent_had_ended_before():
    assert Frontier([trial("b", "a")], usable=lambda key: key == "a").next().key == "b"


@pytest.mark.parametrize("order", [FAMILY, FAMILY[::-1]], ids=["parents first", "children first"])
def test_descendants_of_what_has_no_weights_are_blocked_and_name_their_parent(order):
    frontier = Frontier(order, usable=lambda key: key != "a")
    assert set(drain(frontier)) == {"a", "e"}
    while not frontier.exhausted:
        assert frontier.next() is None
    assert frontier.blocked == {"b": "a", "c": "a", "d": "b"}


def test_only_descendants_are_blocked():
    frontier = Frontier(FAMILY, usable=lambda key: key != "b")
    assert drain(frontier) == ["a", "b", "c", "e"]
    assert frontier.blocked == {"d": "b"}


def test_nothing_pending_is_exhausted_from_the_start():
    frontier = Frontier([], usable=lambda key: True)
    assert frontier.exhausted
    assert frontier.next() is None
