"""Two Ray nodes that share no folder: all that passes between them lies in an object store."""

import contextlib
import json
import random
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import fsspec

from tests.faults.clusters import Node, free_port, must_have_gone_on, node
from tests.faults.runs import Run, ended, must, wait_until

AWAY_SECONDS = 100.0
"""Longer than a driver may be silent before another takes its run over."""

SECRETS = {
    "AWS_ACCESS_KEY_ID": "AKIAPL4NTEDSECRET002",
    "AWS_SECRET_ACCESS_KEY": "Pl4ntedS3cretThatMustNotAppear/AwsKey/04",
}


class Bucket(NamedTuple):
    """An empty bucket of moto's S3 server on this machine."""

    environment: dict[str, str]
    files: Any
    """Its fsspec file system."""
    port: int

    URL = "s3://sweeps/runs"


@contextlib.contextmanager
def bucket(folder: Path) -> Iterator[Bucket]:
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    with open(folder / "moto.log", "wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            stdout=log,
            stderr=log,
        )
    try:
        wait_until(lambda: _answers(endpoint))
        files = fsspec.filesystem(
            "s3",
            key=SECRETS["AWS_ACCESS_KEY_ID"],
            secret=SECRETS["AWS_SECRET_ACCESS_KEY"],
            endpoint_url=endpoint,
            use_listings_cache=False,
            skip_instance_cache=True,
        )
        files.mkdir("sweeps")
        settings = {"AWS_ENDPOINT_URL": endpoint, "AWS_DEFAULT_REGION": "us-east-1"}
        yield Bucket(SECRETS | settings, files, port)
    finally:
        server.kill()
        server.wait()


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


class Line:
    """What lies between a store on this machine and all who use it; it can be cut, and mended."""

    def __init__(self, port: int):
        self._store = ("127.0.0.1", port)
        self._server = socket.create_server(("127.0.0.1", 0))
        self._ends: set[socket.socket] = set()
        self._whole = True
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.getsockname()[1]}"

    def cut(self) -> None:
        self._whole = False
        for end in list(self._ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        self._whole = True

    def _accept(self) -> None:
        while True:
            near, _ = self._server.accept()
            if not self._whole:
                near.close()
                continue
            far = socket.create_connection(self._store)
            threading.Thread(target=self._connect, args=(near, far), daemon=True).start()

    def _connect(self, near: socket.socket, far: socket.socket) -> None:
        """Until both sides have nothing more to say."""
        with near, far:
            self._ends |= {near, far}
            back = threading.Thread(target=self._pass_on, args=(far, near), daemon=True)
            back.start()
            self._pass_on(near, far)
            back.join()
            self._ends -= {near, far}

    @staticmethod
    def _pass_on(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


class Cluster(NamedTuple):
    head: Node
    """Runs no trial."""
    nodes: tuple[Node, Node]
    place: Path
    """Has `one` and `two`, what each node keeps, and `ray`, Ray's own files."""

    @property
    def kept(self) -> tuple[Path, Path]:
        return self.place / "one", self.place / "two"


@contextlib.contextmanager
def cluster(driver: Path, store: Bucket) -> Iterator[Cluster]:
    """Two nodes of one CPU that see nothing of the driver's folder, nor of each other's."""
    with TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as short:
        place = Path(short)  # paths of sockets have to be short
        one, two = place / "one", place / "two"
        one.mkdir()
        two.mkdir()
        options = ["--num-cpus=0", f"--temp-dir={place / 'ray'}"]
        with node(place, "--head", options=options) as head:
            join = f"--address=127.0.0.1:{head.port}"
            with (
                node(place, join, "127.0.0.2", own_environment(store, one), (driver, two)) as first,
                node(
                    place, join, "127.0.0.3", own_environment(store, two), (driver, one)
                ) as second,
            ):
                yield Cluster(head, (first, second), place)


def own_environment(store: Bucket, folder: Path) -> dict[str, str]:
    """Of a node that keeps what is its own in `folder`."""
    return store.environment | {"SWEEP_CACHE": str(folder / "cache")}


def joins(run: Run, nodes: Cluster, store: Bucket) -> None:
    """Have the run's command work on these nodes and leave all in the store."""
    joins_at(run, nodes.head, store)


def joins_at(run: Run, head: Node, store: Bucket) -> None:
    """As `joins`, of the cluster with this head."""
    run.place = Bucket.URL
    run.options = ("--address", f"127.0.0.1:{head.port}")
    run.environment = (
        store.environment | head.environment | {"SWEEP_CACHE": str(run.folder / "cache")}
    )


def node_dies(run: Run, chance: random.Random) -> None:
    """One of the two, in the middle of a training that has a checkpoint in the store: its trial
    goes on at the other node from there."""
    with bucket(run.folder) as store, cluster(run.folder, store) as nodes:
        joins(run, nodes, store)
        process = run.start()
        name, pid = wait_until(lambda: _at_work(store), process)
        next(one for one in nodes.nodes if pid in one.workers()).kill()
        ended(process, 0)
    must_have_gone_on(run, run.path / "trials" / name)


@contextlib.contextmanager
def cut_from_store(run: Run) -> Iterator[tuple[subprocess.Popen[str], Line, str]]:
    """The run at work on two nodes, its store out of reach of all from the middle of a training on:
    its driver, the line to the store, and the name of the trial."""
    with bucket(run.folder) as store:
        line = Line(store.port)
        between = store._replace(environment=store.environment | {"AWS_ENDPOINT_URL": line.address})
        with cluster(run.folder, between) as nodes:
            joins(run, nodes, between)
            process = run.start()
            name, _ = wait_until(lambda: _at_work(store), process)
            line.cut()
            yield process, line, name


def cut_off(run: Run, chance: random.Random) -> None:
    """For a while: what is done meanwhile goes up when the store is back, and nothing is done
    twice."""
    with cut_from_store(run) as (process, line, _):
        time.sleep(AWAY_SECONDS)
        must(process.poll() is None, "the driver ended while the store was away")
        line.mend()
        said = ended(process, 0)
    must("tried again every" in said, f"nobody was told: {said[-2000:]}")
    again = [folder.name for folder, starts in run.starts().items() if starts > 1]
    must(not again, f"started again: {', '.join(again)}")


def gone(run: Run, chance: random.Random) -> None:
    """Until the driver gives up, which it says; trials that had not begun are as they were, and
    when the store is back the same command does the rest."""
    with cut_from_store(run) as (process, line, name):
        said = ended(process, 4, seconds=900)
        must(Bucket.URL in said, f"the store is not named: {said[-2000:]}")
        must("no further trial begins" in said, f"nobody was told: {said[-2000:]}")
        must(sum(run.starts().values()) < 6, "all trials were begun without a store")
        line.mend()
        run.end()
    must_have_gone_on(run, run.path / "trials" / name)


def _at_work(store: Bucket) -> tuple[str, int] | None:
    """A trial in training with a checkpoint in the store, and its process."""
    top = "sweeps/runs/run/trials"
    names = store.files.find(top)
    for name in names:
        if not name.endswith("checksums.json"):
            continue
        trial = name.split("/")[4]
        if trial.startswith("second") and f"{top}/{trial}/train.json" not in names:
            return trial, json.loads(store.files.cat_file(f"{top}/{trial}/worker.json"))["pid"]
    return None
