"""Faults of what a run talks to: nodes that die or are too small, trackers that do not answer."""

import contextlib
import ctypes
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psutil

from tests.faults.runs import Before, Broken, Run, ended, must, wait_until
from trainers.processes.process import PR_SET_PDEATHSIG

HEAD_SECONDS = 150.0
"""Ray gives a head a minute to come back before it ends the driver."""

TOO_MUCH = ("--set", "resources.gpus_per_trial=1")
REFUSED_SECONDS = 20.0
"""Half of it on an idle machine."""

RAY = str(Path(sys.executable).with_name("ray"))

LAST_STARTED = Path("/tmp/ray/ray_current_cluster")
"""What `auto` joins, and every `ray.init()` on this machine; a head that is killed leaves it."""


def too_much_asked(run: Run, chance: random.Random) -> None:
    """Exit code 4 and what the cluster has, at a first start before anything is written; nothing of
    it is in the way of a request that fits."""
    _refused(run)
    must(not run.runs.exists(), "something was written")
    run.end("--set", "limits.max_trials=1", code=5)
    _refused(run)
    with node(run.folder, "--head") as head:
        run.environment = head.environment
        said = _refused(run, "--address", f"127.0.0.1:{head.port}")
        must("(nodes: 1 CPUs and 0 GPUs)" in said, said[-500:])
    run.environment = {}
    began = time.monotonic()
    run.end(*TOO_MUCH, "--wait", "0.2", code=4)
    must(time.monotonic() - began > 12, "it did not wait for 12 s")
    run.end()


def _refused(run: Run, *options: str) -> str:
    began = time.monotonic()
    said = run.end(*TOO_MUCH, *options, code=4)
    took = time.monotonic() - began
    must("no node has as much" in said and "1 GPUs" in said, said[-500:])
    must(took < REFUSED_SECONDS, f"{took:.0f} s")
    return said


def node_dies(run: Run, chance: random.Random) -> None:
    """One of two nodes, in the middle of a training: its trial goes on elsewhere."""
    with node(run.folder, "--head") as head:
        address = f"127.0.0.1:{head.port}"
        with node(run.folder, f"--address={address}", "127.0.0.2") as second:
            run.options = ("--address", address)
            run.environment = second.environment
            process = run.start()
            victim = wait_until(lambda: at_work_among(run, second.workers()), process)
            second.kill()
            ended(process, 0)
    must_have_gone_on(run, victim)


def must_have_gone_on(run: Run, victim: Path) -> None:
    """Started twice, and the second time from a checkpoint."""
    events = run.attempts()[victim]
    starts = [event["pid"] for event in events if event["event"] == "started"]
    must(len(starts) == 2, f"{victim.name}: started {len(starts)} times")
    must(any(event["event"] == "resumed" for event in events), f"{victim.name}: from its beginning")


def head_dies(run: Run, chance: random.Random) -> None:
    """The only node of a cluster, in the middle of a training; with a new head the same command
    completes."""
    with node(run.folder, "--head") as head:
        run.options = ("--address", f"127.0.0.1:{head.port}")
        run.environment = head.environment
        process = run.start()
        wait_until(run.at_work, process)
    began = time.monotonic()
    said = ended(process, None, HEAD_SECONDS)
    must(process.returncode == 4, f"exit code {process.returncode}: {said[-2000:]}")
    must("Ray does not answer any more" in said, said[-2000:])
    must(time.monotonic() - began < HEAD_SECONDS, "it went on without a head")
    before = Before.of(run)
    with node(run.folder, "--head") as head:
        run.options = ("--address", f"127.0.0.1:{head.port}")
        run.end()
    before.check(run)


class Node:
    def __init__(self, pid: int, port: int, environment: dict[str, str]):
        self.pid = pid
        self.port = port
        self.environment = environment

    def kill(self) -> None:
        """All of it at once, as a machine that loses its power."""
        for child in psutil.Process(self.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        psutil.Process(self.pid).kill()

    def lives(self) -> bool:
        """Whether it has a raylet: `ray start --block` waits on after one that left in order, as
        one does that the head took for dead."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return bool(_raylets(self.pid))
        return False

    def workers(self) -> set[int]:
        return {child.pid for child in psutil.Process(self.pid).children(recursive=True)}


@contextlib.contextmanager
def node(
    folder: Path,
    role: str,
    host: str = "127.0.0.1",
    more: Mapping[str, str] | None = None,
    hidden: Sequence[Path] = (),
    options: Sequence[str] = (),
) -> Iterator[Node]:
    """`ray start` with one CPU and a token of the run's own, as docs/launch/cluster.sh has it.

    `more` is added to its environment; in place of the folders `hidden` it sees empty ones.
    """
    token = folder / "token"
    if not token.exists():
        token.touch(mode=0o600)
        token.write_text("0" * 64)
    environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    port = free_port()
    options = ["--num-cpus=1", f"--node-ip-address={host}", "--block", role, *options]
    if role == "--head":
        options += [f"--port={port}", "--include-dashboard=false"]
    with open(folder / f"node{role.partition('=')[0]}.log", "ab") as log:
        process = subprocess.Popen(
            [*_without(hidden), RAY, "start", *options],
            cwd=folder,
            env=os.environ | environment | dict(more or {}),
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=_end_with_parent,
        )
    try:
        wait_until(lambda: _raylets(process.pid), seconds=60)
        started = Node(process.pid, port, environment)
        if role != "--head":
            _wait_until_joined(started, role.partition("=")[2], host)
        yield started
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            Node(process.pid, port, environment).kill()
        process.wait()
        if LAST_STARTED.is_file() and LAST_STARTED.read_text().endswith(f":{port}"):
            LAST_STARTED.unlink()


def _end_with_parent() -> None:
    """Whatever ends the harness, a time limit too, its nodes end in order."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


JOINED = """
import ray, sys, time
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
while not any(n["Alive"] and n["NodeManagerAddress"] == sys.argv[2] for n in ray.nodes()):
    time.sleep(0.2)
"""


def _wait_until_joined(node: Node, address: str, host: str) -> None:
    """Until the head says so: a run that begins before that has one node."""
    command = [sys.executable, "-c", JOINED, address, host]
    try:
        subprocess.run(command, env=os.environ | node.environment, timeout=120, check=True)
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
        raise Broken(f"node {host} has not joined {address}: {error}") from error


def _without(hidden: Sequence[Path]) -> list[str]:
    """Run what follows in a view of the file system of its own, which only root may have."""
    if not hidden:
        return []
    must(os.geteuid() == 0, "only root may hide folders from a node")
    script = 'while [ "$1" != -- ]; do mount -t tmpfs none "$1"; shift; done; shift; exec "$@"'
    return ["unshare", "--mount", "sh", "-ec", script, "sh", *map(str, hidden), "--"]


def _raylets(pid: int) -> list[psutil.Process]:
    raylets = []
    for child in psutil.Process(pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if child.name() == "raylet":
                raylets.append(child)
    return raylets


def at_work_among(run: Run, workers: set[int]) -> Path | None:
    """A trial in the middle of its training, past a checkpoint, by one of these processes."""
    for folder, steps in run.steps().items():
        if steps > 6 and folder.name.startswith("second"):
            last = run.attempts()[folder][-1]
            if last["pid"] in workers:
                return folder
    return None


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def silent_tracker(run: Run, chance: random.Random) -> None:
    """W&B online, to a server that takes connections and never answers; what it did not take is
    there to be sent later."""
    with silent_server() as environment:
        run.environment = environment
        said = run.end("--set", "tracking.wandb={project: p, mode: online}")
    must("does not answer" in said, said[-500:])
    trials, kept = len(run.attempts()), len([*run.path.glob("wandb/offline-run-*/run-*.wandb")])
    must(kept == trials + 1, f"{kept} runs for `wandb sync`, of {trials} trials and a summary")


@contextlib.contextmanager
def silent_server() -> Iterator[dict[str, str]]:
    """The environment of a W&B client whose server takes connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(64)
        yield {
            "WANDB_BASE_URL": f"http://127.0.0.1:{server.getsockname()[1]}",
            "WANDB_API_KEY": "0" * 40,
        }
