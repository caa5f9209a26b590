"""Bundles: trials that are trained in one pass, since they differ in the numbers of their optimizer
alone and so see the same examples in the same order. Which trials, and how many at once; what
trains them is `sweep/execution/worker/bundle.py`."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from sweep.gridfile.keys.schema import Grid
from sweep.plan import lane_gain
from sweep.plan.reference_passes import ReferencePass
from sweep.plan.trials import Trial
from trainers import files
from trainers.specs.kinds import StageSpec
from trainers.specs.lanes import lane_key


class Bundles:
    """The rule of a grid."""

    def __init__(self, grid: Grid):
        self._grid = grid
        self._keys: dict[str, str | None] = {}

    def key(self, trial: Trial) -> str | None:
        """Equal for trials that may share a pass; None for those that share none."""
        if trial.key not in self._keys:
            self._keys[trial.key] = self._key(trial)
        return self._keys[trial.key]

    def _key(self, trial: Trial) -> str | None:
        lanes = self._grid.trial_resources(trial.stage).lanes
        if lanes == 1 or trial.spec is None or isinstance(trial, ReferencePass):
            return None
        if self._why_alone(trial, trial.spec):
            return None
        return files.short_hash(trial.stage, trial.parent, lane_key(trial.spec))

    def _why_alone(self, trial: Trial, spec: StageSpec) -> str:
        """Why a trial whose stage has `lanes` is trained alone all the same; "" where it is not for
        its own sake."""
        resources = self._grid.trial_resources(trial.stage)
        if resources.ranks > 1:
            return f"{resources.ranks} processes train each trial"
        if lane_key(spec) is None:
            return f"their kind ({spec.kind}), optimizer ({spec.optimizer}) or adapter has no lanes"
        return lane_gain.why_none(self._grid, trial) if resources.lanes == "auto" else ""

    def lines(self, planned: Sequence[Trial]) -> Iterator[str]:
        """A line for each stage that asks for lanes and has none."""
        for name, stage in self._grid.stages.items():
            trials = [trial for trial in planned if trial.stage == name and trial.spec is not None]
            groups = Counter(map(self.key, trials))
            groups.pop(None, None)
            shared = max(groups.values(), default=0) > 1
            if stage.resources.lanes == 1 or shared or len(trials) < 2:
                continue
            why = self._why_alone(trials[0], stage.cells[0][1])
            why = why or "no two of them differ in numbers of the optimizer alone"
            yield f"lanes: trials of {name} are trained alone: {why}"

    def size(self, trial: Trial, alike: int, ready: int, free: int) -> int:
        """Trials in the bundle that `trial` begins, itself among them, of `alike` that may share
        its pass. `ready` trials may begin now, those among them, and `free` slots wait for one.

        `auto` takes a free slot's share of what is ready, so that a bundle is never the reason that
        another has nothing to do. It does not divide what is left over slots that are busy: a pass
        of two halves would take longer than the whole. Where so many gain nothing it takes one.
        """
        resources = self._grid.trial_resources(trial.stage)
        if resources.lanes != "auto":
            return min(resources.lanes, alike)
        size = max(1, min(alike, math.ceil(ready / free)))
        return size if lane_gain.pays(self._grid, trial, size) else 1

    def expected(self, planned: Sequence[Trial], slots: int) -> dict[str, int]:
        """Key -> trials of its bundle, itself among them, as `likely` has them."""
        lanes = dict.fromkeys((trial.key for trial in planned), 1)
        for bundle in self.likely(planned, slots):
            lanes |= dict.fromkeys((trial.key for trial in bundle), len(bundle))
        return lanes

    def likely(self, planned: Sequence[Trial], slots: int) -> Iterator[list[Trial]]:
        """The bundles, those of one trial too if it might share a pass, where the trials of a stage
        that start from one model are ready together and as many fit as there may be."""
        ready = Counter(trial.stage for trial in planned)
        free = dict.fromkeys(ready, slots)
        groups = defaultdict[str | None, list[Trial]](list)
        for trial in planned:
            groups[self.key(trial)].append(trial)
        groups.pop(None, None)
        for group in groups.values():
            while group:
                first = group[0]
                size = self.size(first, len(group), ready[first.stage], free[first.stage])
                yield group[:size]
                ready[first.stage] -= size
                free[first.stage] = max(free[first.stage] - 1, 1)
                del group[:size]


SHOWN = 3
"""Learning rates in the title of a bundle."""


def title(bundle: Sequence[Trial]) -> str:
    """In a line, for a dashboard."""
    first = bundle[0]
    if len(bundle) == 1 or first.spec is None:
        return first.title
    rates = sorted({trial.spec.learning_rate for trial in bundle if trial.spec is not None})
    shown = " ".join(f"{rate:.3g}" for rate in rates)
    if len(rates) > SHOWN:
        shown = f"{rates[0]:.3g} to {rates[-1]:.3g}"
    spec = first.spec
    of = f"bs {spec.batch_size} seed {spec.seed}"
    return f"{first.stage} lr {shown} {of} ({len(bundle)} lanes)"
