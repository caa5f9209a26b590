"""What is taken from Ray's inside, by names that may change: pyproject.toml holds Ray at 2.60, and
tests/sweep/execution/test_compat_ray.py fails when they do. Imported by `ray_cluster` and
`ray_tune`, after they have set Ray's environment.
"""

from typing import Any

from ray._private import worker
from ray._private.resource_and_label_spec import ResourceAndLabelSpec


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
