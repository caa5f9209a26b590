"""What a trial gets: devices, processes, and how failures are met."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from trainers.specs.conditions import Sharding
from trainers.specs.fields import Count, Positive, Strict


def _whole_beyond_one(gpus: float) -> float:
    if gpus > 1 and gpus != int(gpus):
        raise ValueError(f"{gpus:g} GPUs: give a share of one, or a whole number of them")
    return gpus


class TrialResources(Strict):
    """What one trial gets. Never part of its identity."""

    cpus_per_trial: Annotated[float, Field(gt=0)] = 1.0
    """Cores that Ray counts for it; they bound its threads."""
    gpus_per_trial: Annotated[float, Field(ge=0), AfterValidator(_whole_beyond_one)] = 0.0
    """A share of one GPU, or one, or several, which then train a trial together: those of one node,
    or of `nodes_per_trial`."""
    nodes_per_trial: Annotated[Count, Field(exclude_if=lambda value: value == 1)] = 1
    """Nodes on which a trial lies. Each has an equal part of its CPUs, GPUs and processes, so that
    {nodes_per_trial: 2, gpus_per_trial: 16} are 8 GPUs on each of two."""
    ranks_per_trial: Count | None = None
    """Processes that train one trial together, each on its share of every batch (data parallel).
    When empty one for each GPU, or one on each node; without GPUs they divide cpus_per_trial."""
    threads_per_rank: Count | None = None
    """CPU threads of each of these processes; their share of cpus_per_trial when empty. More are
    for a trial that many wait for, while other cores have nothing to do."""
    sharding: Annotated[Sharding, Field(exclude_if=lambda value: value == "none")] = "none"
    """Whether these processes divide weights, gradients and optimizer state among them instead of
    holding a copy each (FSDP2): `optimizer` gathers the weights once a step, `full` block by block,
    which takes less memory. The weights that are trained are the same to rounding."""
    lanes: Literal["auto"] | Count = 1
    """Cells that are trained in one pass, at most, where they differ in nothing but the numbers of
    their optimizer and schedule (learning rate, weight decay, betas): each keeps its own records
    and its place in the plan. `auto`: as many as memory holds, where they gain by it, but never so
    many that another slot has nothing to do. Results differ by no more than rounding; it may be
    another number at each start."""

    @model_validator(mode="after")
    def _ranks_have_devices(self) -> Self:
        ranks, gpus, cpus = self.ranks, self.gpus_per_trial, self.cpus_per_trial
        nodes = self.nodes_per_trial
        if nodes > 1 and (gpus % nodes if gpus else cpus < nodes):
            has = f"gpus_per_trial: {gpus:g}" if gpus else f"cpus_per_trial: {cpus:g}"
            give = "gpus_per_trial" if gpus else "cpus_per_trial"
            raise ValueError(
                f"nodes_per_trial: {nodes} nodes cannot divide {has} equally with a process each; "
                f"give {give}: {nodes} or a multiple of it"
            )
        if ranks % nodes:
            raise ValueError(
                f"nodes_per_trial: {nodes} nodes cannot have equal parts of {ranks} processes; "
                f"give ranks_per_trial: {nodes} or a multiple of it"
            )
        if gpus and ranks > max(1, gpus):
            raise ValueError(f"ranks_per_trial: {ranks} processes need a GPU each, not {gpus:g}")
        if ranks < int(gpus):
            raise ValueError(
                f"ranks_per_trial: {ranks} of {gpus:g} GPUs would be used, one by each process; "
                f"give gpus_per_trial: {ranks}, or leave ranks_per_trial out"
            )
        if not gpus and ranks > max(1, cpus):
            raise ValueError(f"ranks_per_trial: {ranks} processes need a CPU each, not {cpus:g}")
        if self.sharding != "none" and ranks == 1:
            raise ValueError(
                f"sharding: {self.sharding!r}: one process trains a trial and has none to share "
                "with; use none, or give gpus_per_trial: 2 or more"
            )
        if ranks > 1 and self.lanes not in (1, "auto"):
            one = "gpus_per_trial: 1" if gpus else "ranks_per_trial: 1"
            raise ValueError(
                f"lanes: {self.lanes} cells are trained in one pass by one process, and {ranks} "
                f"processes train each trial here; give lanes: 1, or {one}"
            )
        return self

    @property
    def ranks(self) -> int:
        """Processes that train one trial."""
        return self.ranks_per_trial or max(self.nodes_per_trial, int(self.gpus_per_trial))

    @property
    def cpus_per_node(self) -> float:
        """On each of the trial's nodes."""
        return self.cpus_per_trial / self.nodes_per_trial

    @property
    def gpus_per_node(self) -> float:
        """On each of the trial's nodes."""
        return self.gpus_per_trial / self.nodes_per_trial

    @property
    def threads(self) -> int:
        """CPU threads of each of them."""
        return self.threads_per_rank or max(1, int(self.cpus_per_trial) // self.ranks)

    @property
    def evaluation_threads(self) -> int:
        """CPU threads of the one that evaluates, when nobody waits for the weights any more."""
        return max(1, int(self.cpus_per_node))


class Resources(TrialResources):
    """What one trial gets where its stage does not say, and how many run at once."""

    max_concurrent: Count | None = None
    """Trials at once; as many as fit when empty."""
    retries: Annotated[int, Field(ge=0)] = 1
    """Further attempts at a trial that failed, within one start of the command."""
    stalled_minutes: Positive = 30.0
    """A trial without a sign of progress (a micro-batch, a batch of items) is ended before so long
    (half a minute before, where it can end itself), its stacks are written to its log, and it is
    tried again. Compiling and first batches count."""
    reuse_workers: bool | None = None
    """Run the next trial in the process of the last; when empty, on CPUs only."""
