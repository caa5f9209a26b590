"""A run folder that lies in an object store: its mirror, its weights, and whether it can be had.

python -m sweep.execution.remote_run s3://bucket/runs/lr_bs runs/lr_bs
"""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from sweep.storage import driver_signs
from sweep.storage.driver_lock import RunHeld
from sweep.storage.driver_signs import SEEN
from sweep.storage.remote.lock import StoreRecord
from sweep.storage.remote.mirror import Mirror
from sweep.storage.remote.object_store import BadUrl, Unreachable, asking, opened
from sweep.storage.remote.weights import weights as weights_of
from sweep.storage.run_folder import MARK, RunFolder
from trainers import files
from trainers.cli import BAD_INPUT, CANNOT_RUN, refusing, stop


def reached(url: str) -> None:
    """Write there, and remove it.

    Raises:
        BadUrl: the URL is none that can be had.
        Unreachable: the store does not answer, or does not let us write.
    """
    system, path = opened(url)
    probe = f"{path}/.probe"  # of one name, so that a start removes what a dead one left
    with asking(url):
        system.pipe_file(probe, b"probe")
        with contextlib.suppress(FileNotFoundError):  # another start was as quick
            system.rm_file(probe)


def mirrored(folder: Path, url: str) -> Mirror:
    """The light mirror of a run.

    Raises:
        BadUrl: the URL is none that can be had.
    """
    mirror = Mirror(folder, url, light=True)
    (folder / SEEN).unlink(missing_ok=True)
    files.write_json(folder / MARK, {"url": url})
    return mirror


@contextlib.contextmanager
def records(url: str, *under: str) -> Iterator[RunFolder]:
    """Those of a run below these folders, in a folder of their own for the time of the block.

    Raises:
        Unreachable: they are in a store that does not give them.
    """
    with tempfile.TemporaryDirectory() as place:
        Mirror(Path(place), url, light=True).pull(*under)
        yield RunFolder(Path(place))


@contextlib.contextmanager
def weights(folder: Path) -> Iterator[Path]:
    """Those of a trial's folder, which may be in a mirror.

    Raises:
        Unreachable: they are in a store that does not give them.
    """
    run = RunFolder(folder.parents[1])
    if run.mirror_of is None:
        yield folder / "model"
        return
    name = (folder.absolute() / "model").relative_to(run.path).as_posix()
    with weights_of(Mirror(run.path, run.mirror_of, light=True), name) as found:
        yield found


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
@refusing
def main(
    url: Annotated[str, typer.Argument(metavar="URL", help="A run, e.g. s3://bucket/runs/lr_bs.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Its mirror, new or not.")],
) -> None:
    """Bring the records of a run here, without weights and prepared data."""
    url = url.rstrip("/")
    if told := RunFolder(folder).problem(url):
        stop(BAD_INPUT, told)
    try:
        system, path = opened(url)
        with asking(url):
            there = system.exists(f"{path}/manifest.json")
        if not there:
            stop(BAD_INPUT, f"{url}: no run (it has no manifest.json)")
        with RunFolder(folder).lock():
            mirror = mirrored(folder, url)
            record = StoreRecord(mirror)
            driver, age = record.read(), record.age()
            mirror.pull()
            if driver is not None:
                driver_signs.note_seen(folder, url, driver, age)
    except BadUrl as error:
        stop(BAD_INPUT, str(error))
    except (Unreachable, RunHeld) as error:
        stop(CANNOT_RUN, str(error))
    print(folder)


if __name__ == "__main__":
    app()
