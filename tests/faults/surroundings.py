"""Faults of what surrounds a run: terminals, code, nodes, Ray, temporary files."""

import contextlib
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from tests.faults.clusters import node
from tests.faults.records import copied_code
from tests.faults.runs import Run, ended, family, must, none_left, wait_until
from trainers import files

BROKEN = '''"""On a broken node of tests/faults: no training starts."""
import importlib.abc, importlib.util, errno, os, sys

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "trainers.stages.sft":
            raise OSError(errno.EIO, os.strerror(errno.EIO), "/dev/nvidia0")

sys.meta_path.insert(0, Finder())
'''

REFUSED_SECONDS = 120.0


def reader_gone(run: Run, chance: random.Random) -> None:
    """`| head -1`: the run goes on, and driver.log has what it said."""
    process = run.start()
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    process.wait(600)
    must(process.returncode == 0, f"exit code {process.returncode}")
    must("6 ok" in (run.path / "driver.log").read_text(), "driver.log is not whole")


def terminal_closed(run: Run, chance: random.Random) -> None:
    """SIGHUP to all of the run's processes, in training."""
    process = run.start()
    wait_until(run.at_work, process)
    for one in family(process.pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            one.send_signal(signal.SIGHUP)
    ended(process, 0)
    must(max(run.starts().values()) == 1, "a trial was started again")


def code_edited(run: Run, chance: random.Random) -> None:
    """trainers/ is edited while a local Ray starts a worker for each trial: all of them run the
    code of the plan."""
    copy = copied_code(run)
    process = run.start("--set", "resources.reuse_workers=false")
    wait_until(run.at_work, process)
    file = copy / "trainers" / "training" / "exact_batches.py"
    file.write_text(file.read_text().replace("loss = ", "loss = 2 * "))
    ended(process, 0)
    codes = {files.read_json(one)["code"] for one in run.path.glob("trials/*/train.json")}
    must(len(codes) == 1, f"codes: {codes}")


def code_edited_here(run: Run, chance: random.Random) -> None:
    """The same in one process, which has no copy: refused with exit code 4, and not mixed."""
    copy = copied_code(run)
    process = run.start()
    wait_until(run.at_work, process)
    file = copy / "trainers" / "training" / "exact_batches.py"
    original = file.read_text()
    file.write_text(original + "\nANOTHER = 1\n")
    said = ended(process, None)
    must(process.returncode in (3, 4), f"exit code {process.returncode}: {said[-500:]}")
    must("is not the code that the plan was made with" in said, said[-500:])
    file.write_text(original)
    run.end()


def one_broken_node(run: Run, chance: random.Random) -> None:
    """One of two nodes starts no training: its trials go to the other one, and no cell is lost."""
    broken = run.folder / "broken"
    broken.mkdir()
    (broken / "sitecustomize.py").write_text(BROKEN)
    with node(run.folder, "--head") as head:
        address = f"127.0.0.1:{head.port}"
        more = {"PYTHONPATH": str(broken)}
        with node(run.folder, f"--address={address}", "127.0.0.2", more) as second:
            run.options = ("--address", address)
            run.environment = second.environment
            run.end("--set", "resources.reuse_workers=false")
    failed = [e for found in run.attempts().values() for e in found if e["event"] == "failed"]
    print(f"  attempts that failed on the broken node: {len(failed)}", flush=True)
    must(failed, "no trial went to the broken node")


def raylet_killed(run: Run, chance: random.Random) -> None:
    """The local raylet is killed: exit code 4 in one sentence, and the same command goes on."""
    long = ("--set", "stages.second.steps=400")
    process = run.start(*long)
    wait_until(run.at_work, process)
    processes = family(process.pid)
    (raylet,) = [one for one in processes if one.name() == "raylet"]
    raylet.kill()
    said = ended(process, None, 300)
    must(process.returncode == 4, f"exit code {process.returncode}: {said[-2000:]}")
    must("Traceback" not in said, said[-2000:])
    none_left(processes, 60)
    run.end(*long)
    run.judged_against = long


def temporary_folder_full(run: Run, chance: random.Random) -> None:
    """Ray's temporary folder has no room: refused before Ray starts."""
    with _full_disk(run.folder / "tmp") as place:
        run.environment = {"RAY_TMPDIR": str(place), "TMPDIR": str(place)}
        began = time.monotonic()
        said = run.end(code=4)
        took = time.monotonic() - began
    must(str(place) in said and "Traceback" not in said, said[-1000:])
    must(took < REFUSED_SECONDS, f"{took:.0f} s")
    run.environment = {}
    run.end()


@contextlib.contextmanager
def _full_disk(place: Path) -> Iterator[Path]:
    place.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    subprocess.run(mount, check=True, capture_output=True)
    with contextlib.suppress(OSError):
        (place / "ballast").write_bytes(b"\0" * (1 << 20))
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)
