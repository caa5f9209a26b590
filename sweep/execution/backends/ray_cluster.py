"""A Ray cluster: joined or started here, what it has, and whether a trial fits.

Ray is imported in this room alone.
"""

import contextlib
import gc
import logging
import os
import signal
import socket
import tempfile
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_OVERRIDE_JOB_RUNTIME_ENV": "1",  # under `ray job submit`: the code copied here counts
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C has to reach the driver
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
os.environ.update({key: value for key, value in ENVIRONMENT.items() if key not in os.environ})

import ray  # noqa: E402  (reads its environment on import)
from ray.autoscaler.sdk import request_resources  # noqa: E402
from ray.exceptions import RayError  # noqa: E402
from ray.job_config import JobConfig  # noqa: E402

from sweep.execution.backends import (  # noqa: E402
    compat_ray,
    ray_access,
    ray_local,
    raylet_watch,
)
from sweep.execution.backends.ray_cleanup import JOINED, Reaper  # noqa: E402
from sweep.execution.backends.ray_local import CannotRun  # noqa: E402
from sweep.gridfile.keys.resources import TrialResources  # noqa: E402
from trainers.processes import devices  # noqa: E402

WORKER_ENVIRONMENT = ("HF_HUB_OFFLINE", "HF_ENDPOINT", "NLTK_DATA", "TQDM_DISABLE")
"""Settings that travel with the code; secrets come from each node's own environment."""


RAY_ERRORS = (RayError, ConnectionError)
"""What Ray raises where a part of it has died."""


Node = dict[str, float]
"""What a node has, by Ray's names: CPU, GPU."""


def check(address: str | None, asked: Collection[TrialResources]) -> int:
    """Whether the cluster at `address`, or the one that would start here, has room for one trial
    of each of `asked`: the quick answer, before anything is fetched, prepared or started. Returns
    how many it runs at once, of those of which it runs most.

    Raises:
        CannotRun: it has not, or there is no cluster.
    """
    if address is not None:
        with connected(address):
            admit(asked)
            return max(fitting(resources, _nodes()) for resources in asked)
    nodes = [compat_ray.this_machine()]
    for resources in asked:
        _check(resources, nodes)
    return max(fitting(resources, nodes) for resources in asked)


class Cluster(NamedTuple):
    """A cluster that this process has joined."""

    dashboard: str
    """Its address, or `none`."""
    scratch: Path
    """An empty folder of this process; it goes with it."""


@contextlib.contextmanager
def connected(
    address: str | None, dashboard_host: str = "127.0.0.1", name: str = "sweep.run"
) -> Iterator[Cluster]:
    """Join the cluster at `address`, or start one here, as a job of this `name`.

    Raises:
        CannotRun: no cluster there.
    """
    if address is None:
        ray_local.check_temporary_folder()
        ray_local.private_token()
    else:
        _check_answers(address)
    with tempfile.TemporaryDirectory(prefix="sweep-", ignore_cleanup_errors=True) as place:
        code, scratch = Path(place, "code"), Path(place, "scratch")
        scratch.mkdir()
        ray_local.copy_code(code)
        reaper = Reaper(Path(place))
        try:
            context = _init(address, dashboard_host, code, name)
            reaper.watch(JOINED if address else context.address_info["session_dir"])
            dashboard = f"http://{context.dashboard_url}" if context.dashboard_url else "none"
            with raylet_watch.watched(raylet_watch.raylet(compat_ray.raylet_socket())):
                yield Cluster(dashboard, scratch)
        finally:
            _shut_down()
            reaper.done()


def _shut_down() -> None:
    """Leave Ray. Garbage is collected before and not meanwhile: an object of Ray's that another
    thread frees while Ray goes down is the likely cause of an exit code 1 seen once here."""
    gc.collect()
    gc.disable()
    try:
        ray.shutdown()
    finally:
        gc.enable()


def _init(address: str | None, dashboard_host: str, code: Path, name: str) -> Any:
    environment = {name: os.environ[name] for name in WORKER_ENVIRONMENT if name in os.environ}
    options: dict[str, Any] = {"include_dashboard": True, "dashboard_host": dashboard_host}
    on_terminate = signal.getsignal(signal.SIGTERM)
    if address:
        options = {"runtime_env": {"env_vars": environment, "working_dir": str(code)}}
    try:
        with contextlib.chdir(code):  # what workers have first on their path
            context = ray.init(
                address=address or "local",
                logging_level=logging.ERROR,
                log_to_driver=False,
                job_config=JobConfig(metadata={"name": name}),
                **options,
            )
    except Exception as error:  # Ray raises bare ones too
        where = f"--address {address}" if address else "no Ray could be started here"
        raise CannotRun(f"{where}: {first_line(error)}") from error
    signal.signal(signal.SIGTERM, on_terminate)  # ray.init puts its own in place
    return context


def first_line(error: Exception) -> str:
    """What it says: Ray adds pages of its logs."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def admit(asked: Collection[TrialResources], wait_minutes: float = 0.0) -> None:
    """Whether the cluster has room for one trial of each of `asked`, now or within the minutes.

    Raises:
        CannotRun: it has not.
    """
    for resources in asked:
        if wait_minutes:
            _wait_for_node(resources, wait_minutes)
        _check(resources, _nodes())


def _check_answers(address: str) -> None:
    """Ray itself goes on trying for minutes."""
    place = _last_started() if address == "auto" else address
    host, _, port = place.rpartition(":")
    if not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except OSError as error:
        where = "there" if place == address else f"at {place}"
        raise CannotRun(f"--address {address}: nothing answers {where} ({error})") from error
    ray_access.ready(address, place)


def _last_started() -> str:
    """What `auto` is to Ray: the environment's address, or that of the cluster that `ray start` has
    left here, which may be long dead; "" where there is neither."""
    if "RAY_ADDRESS" in os.environ:
        return os.environ["RAY_ADDRESS"]
    file = Path(os.environ.get("RAY_TMPDIR", "/tmp")) / "ray" / "ray_current_cluster"
    return file.read_text().strip() if file.is_file() else ""


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


def _check(resources: TrialResources, nodes: list[Node]) -> None:
    """The nodes have to hold one trial, or it would wait for ever."""
    if why := _lacking(resources, nodes):
        several = "nodes_per_trial, cpus_per_trial"
        lower = several if resources.nodes_per_trial > 1 else "cpus_per_trial"
        raise CannotRun(
            f"resources: {why}; lower resources.{lower} or gpus_per_trial, or have a cluster that "
            "grows waited for with --wait MINUTES"
        )


def lacking(resources: TrialResources) -> str:
    """Why no trial with these resources fits on the cluster as it is now; "" where one does."""
    return _lacking(resources, _nodes())


def _lacking(resources: TrialResources, nodes: list[Node]) -> str:
    if _fits(resources, nodes):
        return ""
    asked = f"{resources.cpus_per_node:g} CPUs and {resources.gpus_per_node:g} GPUs"
    says = "no node has"
    if (parts := resources.nodes_per_trial) > 1:
        asked += f" on each of {parts} nodes"
        holding = sum(_holds(resources, node) for node in nodes)
        says = f"{holding} of {len(nodes)} have" if holding else says
    has = "; ".join(
        f"{node.get('CPU', 0):g} CPUs and {node.get('GPU', 0):g} GPUs" for node in nodes
    )
    return f"a trial asks for {asked}, and {says} as much (nodes: {has})"


def _wait_for_node(resources: TrialResources, minutes: float) -> None:
    """A cluster that grows on demand is asked for nodes that fit, and given time. What is asked
    for here is taken back: trials that wait ask for themselves, and nodes that nobody needs may
    go."""
    if _fits(resources, _nodes()):
        return
    end = time.monotonic() + 60 * minutes
    wanted = {kind: amount for kind, amount in _wanted(resources).items() if amount}
    request_resources(bundles=[wanted] * resources.nodes_per_trial)
    try:
        while not _fits(resources, _nodes()) and time.monotonic() < end:
            time.sleep(1)
    finally:
        request_resources(bundles=[])


def _wanted(resources: TrialResources) -> Node:
    """On each of a trial's nodes."""
    return {"CPU": resources.cpus_per_node, "GPU": resources.gpus_per_node}


def _holds(resources: TrialResources, node: Node) -> bool:
    return all(node.get(kind, 0) >= n for kind, n in _wanted(resources).items())


def _fits(resources: TrialResources, nodes: list[Node]) -> bool:
    return sum(_holds(resources, node) for node in nodes) >= resources.nodes_per_trial


def _nodes() -> list[Node]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def fits_elsewhere(resources: TrialResources, nodes: Collection[str]) -> bool:
    """Whether a trial fits on a node that is none of these, given by their ids."""
    if not nodes:
        return False
    others = [n["Resources"] for n in ray.nodes() if n["Alive"] and n["NodeID"] not in nodes]
    return _fits(resources, others)


def concurrency(resources: TrialResources, most: int | None, *, grows: bool = False) -> int:
    """Trials with these resources that fit on the cluster at once, at most `most`; so many where
    the cluster grows with what waits."""
    if grows and most is not None:
        return most
    fits = fitting(resources, _nodes())
    return max(1, min(fits, most or fits))


def fitting(resources: TrialResources, nodes: list[Node]) -> int:
    """Trials with these resources that the nodes hold at once: so many that they find their parts,
    each on nodes of its own."""
    slots = [
        devices.trials_at_once(
            node.get("CPU", 0),
            int(node.get("GPU", 0)),
            resources.cpus_per_node,
            resources.gpus_per_node,
        )
        for node in nodes
    ]
    parts = resources.nodes_per_trial
    counts = range(sum(slots) // parts, 0, -1)
    return next((n for n in counts if sum(min(slot, n) for slot in slots) >= n * parts), 0)
