"""A run from its plan to its report: check, resolve, then the phases of the orchestrator."""

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from analysis.tables.errors import ResultsError
from sweep.audit import run_audit
from sweep.execution import preflight, remote_driver
from sweep.execution.backends.runner import runner
from sweep.gridfile.keys.schema import Grid
from sweep.gridfile.screening import screening_stage
from sweep.options import Options
from sweep.orchestrate import Orchestrator
from sweep.page import browser, live
from sweep.plan.disk import full
from sweep.plan.trials import Trial
from sweep.resolve.resolve import CannotStart, ResolvedGrid, resolve
from sweep.storage import leftovers, manifest
from sweep.storage.driver_lock import RunHeld
from sweep.storage.remote.object_store import Unreachable
from sweep.storage.run_folder import RunFolder, plan_csv
from sweep.storage.run_log import RunConsole
from sweep.tracking import follow, notify
from trainers.files import Damaged


def drive(
    grid: Grid,
    planned: list[Trial],
    path: Path,
    options: Options,
    console: RunConsole,
    messages: ExitStack | None = None,
) -> Counter[str]:
    """Run what is not done and write the report; returns how many trials are in which state.

    `notify` sends the message of the end when `messages` is closed, as where further rounds follow;
    without `messages` it does so when the report is there.

    States: `ok`, `diverged`, `failed`, `planned` for what has not been started, and `not asked for`
    for the cells that a search which has ended passed over, and for what `--only` leaves out.

    Raises:
        CannotStart: something that the run needs is missing and nothing was started, or its
            records cannot stand in one table.
    """
    folder = RunFolder(path)
    try:
        stages = preflight.stages_to_train(grid, planned, folder, options)
        at_once = preflight.check_resources(grid, stages, options)
        with (
            leftovers.gone_after(CannotStart, folder.path),
            folder.lock(console.say) as lock,
            remote_driver.held(options.store, folder, console.say) as stored,
            console.kept_in(folder.path),
            live.drawn(folder, plan_csv(_certain(grid, planned)), console.say) as page,
        ):
            leftovers.remove(folder.path)
            if stages:
                _begin(page, options, console.say)
            resolved = resolve(grid, preflight.seen(folder))
            for line in resolved.notes:
                console.say(line)
            run = Orchestrator(resolved, folder, options, console, stored, lock)
            _check(run, resolved, at_once)
            with ExitStack() as own:
                return _phases(run, resolved, page, own if messages is None else messages)
    except (RunHeld, Damaged, ResultsError, Unreachable) as error:
        told = str(error)
        if options.store is not None:  # what is deleted in a mirror alone comes back
            told = told.replace(f"{folder.path}/", f"{options.store}/")
        raise CannotStart(told) from error
    except Exception as error:
        no_room = full(error)
        if isinstance(error, CannotStart) or not (no_room or isinstance(error, OSError)):
            raise
        path = getattr(no_room or error, "filename", None) or folder.path
        advice = "make room" if no_room else "mend it"
        raise CannotStart(
            f"{path}: {no_room or error}; {advice}, and the same command continues"
        ) from error


def _check(run: Orchestrator, resolved: ResolvedGrid, at_once: int | None) -> None:
    """Whether what is recorded and what is planned can stand in one table, and on this disk."""
    preflight.check_unchanged(run.folder, resolved.fingerprints)
    if not run.options.changed_code:
        preflight.check_code(run.folder, manifest.changed_code(run.folder))
    if run.stored is None:
        over = run.passed_over
        asked = [t for t in run.planned if t.key in run.only or not (run.only or t.key in over)]
        preflight.check_disk(run.folder, resolved.grid, asked, at_once)


def _begin(page: live.LivePage, options: Options, say: Callable[[str], None]) -> None:
    """Before the data and the model are there, which may take long."""
    say(f"page: {page.path} fills while trials run")
    show = partial(browser.show, say=say) if options.open_page else None
    page.begin("Preparing data and model", show)


def _phases(
    run: Orchestrator, resolved: ResolvedGrid, page: live.LivePage, messages: ExitStack
) -> Counter[str]:
    """Prepare, execute and report, wave by wave, while the page fills and trackers follow."""
    grid, folder, say = resolved.grid, run.folder, run.say
    with runner(grid, run.options, resolved.needed, run.allowance.reached, say) as backend:
        if run.pending() and not page.begun:  # scores are missing, or it goes on with a search
            _begin(page, run.options, say)
        run.prepare(backend)
        preflight.check_screening(grid, folder)
        page.note("")
        run_audit.run(resolved, folder, say)
        messages.enter_context(notify.following(grid, folder.path, say))
        with follow.following(grid.tracking, folder.path, say):
            run.execute(backend)
            while run.choose_parents():
                run.plan_wave()
                run.prepare(backend)
                run.execute(backend)
            backend.leave()
            states = run.report()
            if run.options.open_page and not page.begun:
                browser.show(page.path, say)
            return states


def _certain(grid: Grid, planned: list[Trial]) -> list[Trial]:
    """Those that will run whatever the results say."""
    if grid.decide is None:
        return planned
    short = screening_stage(grid)
    return [t for t in planned if t.spec is None or (short and t.stage == short.name)]
