"""What is taken from Ray's inside is still there, and as it was in Ray 2.60."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]


def in_a_process(code: str) -> None:
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


def test_cores_of_this_machine():
    code = "from sweep.execution.backends import compat_ray; print(compat_ray.this_machine())"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert f"'CPU': {len(os.sched_getaffinity(0))}" in ended.stdout, ended.stderr


def test_tune_forgets_a_trial_that_has_ended():
    in_a_process("""if True:
        from ray.tune.execution.tune_controller import TuneController
        from ray.tune.experiment import Trial
        from sweep.execution.backends import compat_ray

        controller = TuneController.__new__(TuneController)
        ended, waits = (Trial("a", trial_id=name, stub=True) for name in ("ended", "waits"))
        ended.set_status(Trial.TERMINATED)
        controller._trials = [ended, waits]
        controller._stopped_trials, controller._failed_trials = [ended], []
        controller._trial_metadata = {"ended": "x" * 30_000, "waits": ""}
        controller._trials_to_cache = {ended, waits}
        compat_ray.forget_ended_trials(controller)
        assert controller.get_trials() == [waits]
        assert controller._trial_metadata == {"waits": ""}
        assert controller._trials_to_cache == {waits}
        assert not controller._stopped_trials
        """)


def test_controller_has_the_names():
    in_a_process("""if True:
        import inspect
        from ray.tune.execution.tune_controller import TuneController

        source = inspect.getsource(TuneController.__init__)
        for name in ("_stopped_trials", "_failed_trials", "_trial_metadata", "_trials_to_cache"):
            assert f"self.{name}" in source, name
        """)


@pytest.mark.slow
def test_this_machine_has_what_ray_will_find():
    in_a_process("""if True:
        from sweep.execution.backends import ray_cluster as cluster
        here = cluster.compat_ray.this_machine()
        cluster.ray.init(address="local", include_dashboard=False)
        (there,) = cluster._nodes()
        assert here == {kind: there.get(kind, 0) for kind in here}, (here, there)
        """)


@pytest.mark.slow
def test_raylet_of_this_process_is_found_by_its_socket():
    in_a_process("""if True:
        from sweep.execution.backends import compat_ray, ray_cluster, raylet_watch

        with ray_cluster.connected(None):
            process = raylet_watch.raylet(compat_ray.raylet_socket())
            assert process is not None and process.name() == "raylet"
    """)


def test_tune_has_what_naming_takes_the_place_of():
    in_a_process("""if True:
        import inspect
        from ray.tune.execution import tune_controller
        from sweep.execution.backends import compat_ray

        source = inspect.getsource(tune_controller.TuneController)
        for part in ("self._class_cache = _ActorClassCache()", "self._class_cache.get(",
                     'method_name = "train"', 'method_name="reset"'):
            assert part in source or part.replace(" = ", "=") in source, part
        before = tune_controller._ActorClassCache
        with compat_ray.named_trials(str, reused=False):
            assert issubclass(tune_controller._ActorClassCache, before)
        assert tune_controller._ActorClassCache is before
        """)


def test_actor_that_serves_one_trial_has_its_name():
    in_a_process("""if True:
        from sweep.execution.backends import compat_ray

        names = compat_ray._Names(str, reused=False)
        assert [names.of_actor("sft lr 1"), names.of_actor("sft lr 1")] == [
            "sft lr 1, start 1", "sft lr 1, start 2"]
        assert compat_ray._Names(str, reused=True).of_actor("sft lr 1") == "worker 1"
        """)
