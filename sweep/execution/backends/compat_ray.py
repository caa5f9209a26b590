"""What is taken from Ray's inside, by names that may change: pyproject.toml holds Ray at 2.60, and
tests/sweep/execution/backends/test_compat_ray.py fails when they do. Imported by `ray_cluster` and
`ray_tune`, after they have set Ray's environment.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ray._private import worker
from ray._private.resource_and_label_spec import ResourceAndLabelSpec
from ray.tune.execution import tune_controller as controller_module


def this_machine() -> dict[str, float]:
    """CPUs and GPUs that a Ray which starts here will find, by its own reckoning (containers,
    visible devices)."""
    resources = ResourceAndLabelSpec().resolve(is_head=True, node_ip_address="127.0.0.1")
    return {"CPU": resources.num_cpus or 0, "GPU": resources.num_gpus or 0}


def raylet_socket() -> str:
    """Of the raylet by which this process has joined a cluster."""
    assert worker._global_node is not None
    return worker._global_node.raylet_socket_name


def forget_ended_trials(tune_controller: Any) -> None:
    """Drop the trials that have ended, whose records are in the run folder: Tune keeps each with
    its results (30 kB) and goes through all of them at every step."""
    ended = [*tune_controller._stopped_trials, *tune_controller._failed_trials]
    for trial in ended:
        tune_controller._trial_metadata.pop(trial.trial_id, None)
    tune_controller._trials_to_cache.difference_update(ended)
    tune_controller._stopped_trials.clear()
    tune_controller._failed_trials.clear()
    trials = tune_controller.get_trials()
    trials[:] = [trial for trial in trials if not trial.is_finished()]


@contextlib.contextmanager
def named_trials(title: Callable[[dict[str, Any]], str], reused: bool) -> Iterator[None]:
    """Within the block, Tune's actors and their tasks have names for the dashboard; `title` is told
    a trial's config.

    An actor keeps the name that it began with. Where it is `reused` for several trials it is called
    a worker, and its tasks have the names of the trials.
    """
    module: Any = controller_module
    original = module._ActorClassCache

    class Named(original):
        def get(self, trainable_cls: Any) -> Any:
            return _named(super().get(trainable_cls), names)

    names = _Names(title, reused)
    module._ActorClassCache = Named
    try:
        yield
    finally:
        module._ActorClassCache = original


class _Names:
    def __init__(self, title: Callable[[dict[str, Any]], str], reused: bool):
        self.title = title
        self._reused = reused
        self._count = 0

    def of_actor(self, title: str) -> str:
        """Unique, or Ray refuses: an attempt may begin while the one before ends."""
        self._count += 1
        return f"worker {self._count}" if self._reused else f"{title}, start {self._count}"


def _named(actor_class: Any, names: _Names) -> Any:
    """The same class, whose actors have names."""
    original = type(actor_class).options

    def options(**given: Any) -> Any:
        return _NamedActor(lambda name: original(actor_class, **given, name=name), names)

    actor_class.options = options
    return actor_class


class _NamedActor:
    def __init__(self, options: Callable[[str], Any], names: _Names):
        self._options = options
        self._names = names

    def remote(self, **arguments: Any) -> Any:
        title = self._names.title(arguments["config"])
        handle = self._options(self._names.of_actor(title)).remote(**arguments)
        train, reset = handle.train, handle.reset

        def renamed(config: dict[str, Any], *more: Any, **others: Any) -> Any:
            nonlocal title
            title = self._names.title(config)
            return reset.remote(config, *more, **others)

        handle.train = _Method(lambda *a, **k: train.options(name=title).remote(*a, **k))
        handle.reset = _Method(renamed)
        return handle


class _Method(NamedTuple):
    remote: Callable[..., Any]
