"""The command line, apart from the grid."""

from typing import NamedTuple


class Options(NamedTuple):
    local: bool = False
    address: str | None = None
    only: frozenset[str] | None = None
    """Keys of the trials to run; all of them when None."""
    retry_failed: bool = False
    changed_code: bool = False
    """Go on though what trains and scores is not what the run began with."""
    wait_minutes: float = 0.0
    """For a cluster that grows until one of its nodes holds a trial."""
    dashboard_host: str = "127.0.0.1"
    """Where the dashboard of a cluster that is started here listens."""
    store: str | None = None
    """URL of the run, where its nodes share no folder; the run folder is a mirror of it then."""
    open_page: bool = False
    """In a browser, as soon as it stands."""
