"""What the page of a running sweep shows of each cell."""

from types import SimpleNamespace

from sweep.page import state
from sweep.storage.ranking import Scored


def test_cell_with_a_seed_that_diverged_shows_no_score():
    """The report calls it diverged: the mean of the other seeds would flatter it."""
    ok, diverged = SimpleNamespace(key="a", state="ok"), SimpleNamespace(key="b", state="diverged")
    partly = [SimpleNamespace(key="c", state="ok"), SimpleNamespace(key="d", state="planned")]
    scored = {key: Scored(key, "", 0, 0.5) for key in "ac"}
    cells = {(1e-3, 8): [ok], (4e-3, 8): [ok, diverged], (1e-3, 16): partly}
    assert set(state._scores(cells, scored, True)) == {(1e-3, 8), (1e-3, 16)}
