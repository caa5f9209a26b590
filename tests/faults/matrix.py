"""The faults, and each one's verdict against an undisturbed run."""

import random
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from tests.faults import (
    checkpoints,
    clusters,
    liveness,
    memory,
    processes,
    records,
    several_nodes,
    stores,
    surroundings,
    writers,
)
from tests.faults.runs import Broken, Run, Verdict, judged

Does = Callable[[Run, random.Random], None]


LANES = ("--set", "resources.lanes=2")

ROUNDING = 1e-3
"""Of float32, after the steps of a small training."""


NOISE_SCALE = 1e-2
"""Of one, which several processes measure by gradients that they add in another order."""


class Fault(NamedTuple):
    name: str
    does: Does
    local: bool = False
    """Without Ray, where the fault has nothing to do with it."""
    times: int = 1
    """Tries of `python -m tests.faults`; those that strike at random moments take several."""
    lanes: bool = False
    """With cells that are trained in one pass, whose table is that of single ones to rounding."""
    rounded: bool = False
    """With trials that several processes train, whose table is that of one process to rounding."""

    @property
    def tolerance(self) -> float:
        """The largest difference of tables that is none."""
        return NOISE_SCALE if self.rounded else ROUNDING if self.lanes else 0.0


FAULTS = (
    Fault("driver killed (-9) at a random moment", processes.driver_killed, times=20),
    Fault("driver killed (-9) in training", processes.driver_killed_while_training, times=3),
    Fault("driver killed (-9) as Ray starts", processes.driver_killed_while_ray_starts, times=3),
    Fault("worker killed (-9)", processes.worker_killed, times=2),
    Fault(
        "worker killed (-9) in a pass over two cells", processes.pass_killed, times=2, lanes=True
    ),
    Fault("Ctrl-C", processes.interrupted_once),
    Fault("Ctrl-C twice", processes.interrupted_twice),
    Fault("SIGTERM", processes.terminated),
    Fault("two drivers on one run folder", processes.two_drivers),
    Fault("clock set back a day", processes.clock_set_back, local=True),
    Fault("a node of two dies", clusters.node_dies),
    Fault("a node of two dies, with no shared folder", stores.node_dies),
    Fault(
        "the second node of a trial on two dies",
        several_nodes.second_node_dies,
        rounded=True,
    ),
    Fault(
        "a process on a trial's second node killed (-9)",
        several_nodes.process_killed,
        rounded=True,
    ),
    Fault(
        "worker of a trial on two nodes killed (-9)",
        several_nodes.worker_killed,
        rounded=True,
    ),
    Fault("the object store out of reach for a while", stores.cut_off),
    Fault("the object store out of reach until the driver ends", stores.gone),
    Fault("the head dies", clusters.head_dies),
    Fault("out of memory", memory.out_of_memory, local=True),
    Fault("out of memory in a pass", memory.out_of_memory, local=True, lanes=True),
    Fault("a request that no node can meet", clusters.too_much_asked),
    Fault("disk full at a random moment", records.disk_full, local=True, times=3),
    Fault("disk full at a random moment, with Ray", records.disk_full),
    Fault("no file above a size", records.record_files_limited, local=True, times=3),
    Fault("each record cut at a random byte", records.record_cut, local=True),
    Fault("a checkpoint's file cut", checkpoints.checkpoint_cut, local=True, times=3),
    Fault("one bad cell", records.one_bad_cell, local=True),
    Fault("one bad cell of a pass", records.one_bad_cell, local=True, lanes=True),
    Fault("evaluation crashes", records.evaluation_crashes, local=True),
    Fault("data changed between starts", records.data_changed, local=True),
    Fault("code changed between starts", records.code_changed, local=True),
    Fault("a worker stops answering", liveness.worker_stopped, times=5),
    Fault("a worker of another node stops", liveness.worker_stopped_on_another_node, times=5),
    Fault("an evaluation never returns", liveness.evaluation_hangs),
    Fault("an evaluation never returns, no Ray", liveness.evaluation_hangs_in_driver, local=True),
    Fault("an evaluation over its time", liveness.evaluation_over_its_time),
    Fault("two preemptions of one trial", liveness.preempted_twice),
    Fault("SIGTERM to a worker", liveness.preemption_notice),
    Fault("two writers of one trial", writers.two_writers, local=True, times=3),
    Fault("a file lock that says yes to everybody", writers.lock_of_everybody, local=True),
    Fault("the run folder moved away", writers.folder_moved, local=True, times=3),
    Fault("a dead driver on another host", writers.driver_elsewhere_dead, local=True),
    Fault("the reader of the output goes", surroundings.reader_gone, local=True),
    Fault("the terminal is closed", surroundings.terminal_closed),
    Fault("code edited while Ray runs", surroundings.code_edited),
    Fault("code edited while one process runs", surroundings.code_edited_here, local=True),
    Fault("one broken node of two", surroundings.one_broken_node),
    Fault("the local raylet killed", surroundings.raylet_killed),
    Fault("Ray's temporary folder full", surroundings.temporary_folder_full),
    Fault("W&B answers nothing", clusters.silent_tracker, local=True),
)


class Tried(NamedTuple):
    """One try of a fault; `broken` says what did not hold."""

    verdict: Verdict | None
    broken: str = ""


def reference(folder: Path) -> pd.DataFrame:
    """The table of a run to which nothing was done, in one process."""
    run = Run(folder / "reference", options=("--local",))
    run.end()
    return run.table()


def tried(fault: Fault, folder: Path, undisturbed: pd.DataFrame, seed: int) -> Tried:
    options = (*(("--local",) if fault.local else ()), *(LANES if fault.lanes else ()))
    run = Run(folder, options=options)
    try:
        fault.does(run, random.Random(seed))
    except Broken as error:
        return Tried(None, str(error))
    except Exception as error:  # of the fault itself: the other rows are tried all the same
        traceback.print_exc()
        return Tried(None, f"{type(error).__name__}: {error}")
    if run.judged_against:
        other = Run(folder / "undisturbed", options=("--local",))
        other.end(*run.judged_against)
        undisturbed = other.table()
    return Tried(judged(run.table(), undisturbed))
