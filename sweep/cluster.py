"""Trials on Ray Tune: resources, concurrency, retries, dashboard. The only `import ray`.

Tune schedules, places, retries and shows; the records in the run folder say what happened.
"""

import contextlib
import logging
import os
import secrets
import signal
import socket
import tempfile
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C has to reach the driver
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
os.environ.update({key: value for key, value in ENVIRONMENT.items() if key not in os.environ})

import ray  # noqa: E402  (reads its environment on import)
from ray import tune  # noqa: E402
from ray.autoscaler.sdk import request_resources  # noqa: E402
from ray.exceptions import RayError  # noqa: E402
from ray.tune.execution import class_cache  # noqa: E402
from ray.tune.search import Searcher  # noqa: E402
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # noqa: E402

from sweep import scratch, trial, triallog  # noqa: E402
from sweep.frontier import Frontier  # noqa: E402
from sweep.grid import Resources, TrialResources  # noqa: E402
from sweep.reaper import Reaper  # noqa: E402
from sweep.store import TrialFolder  # noqa: E402
from sweep.trial import Job, Outcome, Watch  # noqa: E402
from trainers import fetch  # noqa: E402
from trainers.fetch import Needs  # noqa: E402

WORKER_ENVIRONMENT = ("HF_HUB_OFFLINE", "HF_ENDPOINT", "NLTK_DATA", "TQDM_DISABLE")
"""Settings that travel with the code; secrets come from each node's own environment."""

# Tune sends AWS keys along with the trials, and Ray's agent writes what is sent to its log.
class_cache.ENV_VARS_TO_PROPAGATE.difference_update(
    [name for name in class_cache.ENV_VARS_TO_PROPAGATE if name.startswith("AWS_")]
)


class CannotRun(Exception):
    """The cluster cannot give a trial what the grid asks for."""


@contextlib.contextmanager
def connected(
    address: str | None,
    asked: Collection[TrialResources],
    wait_minutes: float = 0.0,
    dashboard_host: str = "127.0.0.1",
) -> Iterator[str]:
    """Join the cluster at `address`, or start one here; yields the dashboard's address.

    Raises:
        CannotRun: no cluster there, or none of its nodes has what one trial of `asked` takes, nor
            gets it within the minutes to wait.
    """
    if address is None:
        _private_token()
    else:
        _check_answers(address)
    environment = {name: os.environ[name] for name in WORKER_ENVIRONMENT if name in os.environ}
    options: dict[str, Any] = {"include_dashboard": True, "dashboard_host": dashboard_host}
    if address:
        options = {"runtime_env": {"env_vars": environment, "py_modules": _packages()}}
    on_terminate = signal.getsignal(signal.SIGTERM)
    reaper = Reaper() if address is None else None
    try:
        context: Any = ray.init(
            address=address or "local", logging_level=logging.ERROR, log_to_driver=False, **options
        )
        signal.signal(signal.SIGTERM, on_terminate)  # ray.init puts its own in place
    except (ConnectionError, RuntimeError) as error:
        if reaper:
            reaper.done()
        raise CannotRun(f"--address {address}: {error}") from error
    try:
        if reaper:
            reaper.watch(context.address_info["session_dir"])
        for resources in asked:
            _check(resources, wait_minutes)
        yield f"http://{context.dashboard_url}" if context.dashboard_url else "none"
    finally:
        ray.shutdown()
        if reaper:
            reaper.done()


def _check_answers(address: str) -> None:
    """Ray itself goes on trying for minutes."""
    place = _last_started() if address == "auto" else address
    host, _, port = place.removeprefix("ray://").rpartition(":")
    if not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except OSError as error:
        where = "there" if place == address else f"at {place}"
        raise CannotRun(f"--address {address}: nothing answers {where} ({error})") from error


def _last_started() -> str:
    """What `auto` is to Ray: the environment's address, or that of the cluster that `ray start` has
    left here, which may be long dead; "" where there is neither."""
    if "RAY_ADDRESS" in os.environ:
        return os.environ["RAY_ADDRESS"]
    file = Path(os.environ.get("RAY_TMPDIR", "/tmp")) / "ray" / "ray_current_cluster"
    return file.read_text().strip() if file.is_file() else ""


def _private_token() -> None:
    """Ray writes its token for a local cluster readable by all; one that exists it leaves alone."""
    path = Path.home() / ".ray" / "auth_token"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))


def _packages() -> list[str]:
    import analysis
    import sweep
    import trainers

    return [str(Path(str(package.__file__)).parent) for package in (sweep, trainers, analysis)]


def exposed(dashboard: str) -> str | None:
    """A warning, where a dashboard's address is not this machine's alone."""
    host = urlsplit(dashboard).hostname
    if host is None or host == "localhost" or host.startswith("127.") or host == "::1":
        return None
    return (
        f"WARNING: the Ray dashboard listens on {host}, beyond this machine. Who reaches it and "
        "has the token, and anybody where the cluster runs without RAY_AUTH_MODE=token, can run "
        "code on all nodes: keep it behind a firewall, or on localhost with an SSH tunnel"
    )


def _check(resources: TrialResources, wait_minutes: float) -> None:
    """One node has to hold one trial, or it would wait for ever. A cluster that grows on demand is
    asked for such a node, and given time."""
    wanted = {"CPU": resources.cpus_per_trial, "GPU": resources.gpus_per_trial}
    if _fits(wanted) or (wait_minutes and _grown(wanted, wait_minutes)):
        return
    raise CannotRun(
        f"resources: a trial asks for {wanted['CPU']:g} CPUs and {wanted['GPU']:g} GPUs, and no "
        f"node has as much (nodes: {_nodes()}); lower resources.cpus_per_trial or gpus_per_trial, "
        "or have a cluster that grows waited for with --wait MINUTES"
    )


def _grown(wanted: dict[str, float], minutes: float) -> bool:
    """Whether the cluster got a node that fits. What is asked for here is taken back: trials that
    wait ask for themselves, and nodes that nobody needs may go."""
    end = time.monotonic() + 60 * minutes
    bundle = {kind: amount for kind, amount in wanted.items() if amount}
    request_resources(bundles=[bundle])
    try:
        while not _fits(wanted):
            if time.monotonic() >= end:
                return False
            time.sleep(1)
        return True
    finally:
        request_resources(bundles=[])


def _fits(wanted: dict[str, float]) -> bool:
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return any(all(node.get(kind, 0) >= n for kind, n in wanted.items()) for node in nodes)


def _nodes() -> str:
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return "; ".join(f"{one.get('CPU', 0):g} CPUs and {one.get('GPU', 0):g} GPUs" for one in nodes)


def concurrency(resources: TrialResources, most: int | None, *, grows: bool = False) -> int:
    """Trials with these resources that fit on the cluster at once, at most `most`; so many where
    the cluster grows with what waits."""
    if grows and most is not None:
        return most
    total = ray.cluster_resources()
    fits = total.get("CPU", 0) // resources.cpus_per_trial
    if resources.gpus_per_trial:
        fits = min(fits, total.get("GPU", 0) // resources.gpus_per_trial)
    return max(1, min(int(fits), most or int(fits)))


def fetch_on_other_nodes(needed: Needs) -> None:
    """What the driver has fetched for its own node, for each of the others.

    Raises:
        CannotRun: a node cannot fetch it.
    """
    here = ray.get_runtime_context().get_node_id()
    others = [n["NodeID"] for n in ray.nodes() if n["Alive"] and n["NodeID"] != here]
    task = ray.remote(num_cpus=0)(fetch.fetch)
    waiting = [
        task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(
            needed
        )
        for node in others
    ]
    try:
        ray.get(waiting)
    except RayError as error:
        raise CannotRun(f"on another node: {getattr(error, 'cause', None) or error}") from error


def run(
    frontier: Frontier,
    jobs: dict[str, Job],
    resources: Resources,
    asked: dict[str, TrialResources],
    at_once: int,
    watch: Watch,
) -> None:
    """Run every trial of the frontier under Ray Tune, `at_once` of them; `asked` has what a trial
    of each stage gets.

    One `Tuner.fit` serves all stages, since workers are reused only within one: a searcher hands
    out each trial as soon as its parent is done.
    """
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(at_once)  # a waiting trial keeps a worker alive
    reuse = resources.reuse_workers
    on_gpu = any(one.gpus_per_trial for one in asked.values())

    def bundle(config: dict[str, Any]) -> tune.PlacementGroupFactory:
        one = asked[config["stage"]]
        return tune.PlacementGroupFactory([{"CPU": one.cpus_per_trial, "GPU": one.gpus_per_trial}])

    with tempfile.TemporaryDirectory(prefix="sweep-tune-") as scratch:
        tuner = tune.Tuner(
            tune.with_resources(
                tune.with_parameters(_run_job, jobs=jobs),
                bundle,
            ),
            tune_config=tune.TuneConfig(
                search_alg=_Ready(frontier, watch),
                num_samples=len(jobs),
                max_concurrent_trials=at_once,
                reuse_actors=not on_gpu if reuse is None else reuse,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(
                name="trials",
                storage_path=scratch,
                verbose=0,
                callbacks=[_Told(watch)],
                failure_config=tune.FailureConfig(max_failures=resources.retries),
            ),
        )
        tuner.fit()


def _run_job(config: dict[str, Any], jobs: dict[str, Job]) -> None:
    job = jobs[config["key"]]
    with scratch.here(job) as mine, triallog.output(TrialFolder(Path(mine.folder)).log):
        outcome = trial.run(mine)
    tune.report(outcome._asdict())


class _Told(tune.Callback):
    """Passes on the beginning of each attempt; what Tune would pickle of it is nothing."""

    def __init__(self, watch: Watch):
        self._watch = watch

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self._watch.started(trial.config["key"])

    def on_trial_recover(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self._watch.retried(trial.config["key"])

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Ready(Searcher):
    """Hands Tune the frontier's trials; holds no state that Tune would have to restore."""

    def __init__(self, frontier: Frontier, watch: Watch):
        super().__init__()
        self._frontier = frontier
        self._watch = watch
        self._keys: dict[str, str] = {}

    def suggest(self, trial_id: str) -> Any:
        planned = self._frontier.next()
        if planned is not None:
            self._keys[trial_id] = planned.key
            shown = {"key": planned.key, "stage": planned.stage}
            if planned.spec is not None:
                shown |= planned.spec.model_dump(include={"learning_rate", "batch_size", "seed"})
            return shown
        return Searcher.FINISHED if self._frontier.exhausted else None

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        key = self._keys[trial_id]
        self._frontier.ended(key)
        if error or not result or "status" not in result:
            self._watch.ended(Outcome(key, "failed", "", 0.0, 0.0))
        else:
            self._watch.ended(Outcome(*(result[field] for field in Outcome._fields)))

    def save(self, checkpoint_path: str) -> None:
        pass

    def restore(self, checkpoint_path: str) -> None:
        pass

    def __getstate__(self) -> dict[str, Any]:
        return {}
