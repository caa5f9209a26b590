"""Of files that grow only new bytes travel, and none of an attempt that was superseded."""

import random
import uuid
from pathlib import Path
from typing import Any

import pytest

from sweep.storage.remote import segments
from sweep.storage.remote.mirror import Mirror
from sweep.storage.remote.object_store import Unreachable

CURVE = "trials/t/metrics.jsonl"


@pytest.fixture(params=["memory", "file"])
def url(request, tmp_path) -> str:
    """Of an empty folder of a store."""
    if request.param == "memory":
        return f"memory://bucket-{uuid.uuid4().hex}/runs/run"
    return f"file://{tmp_path}/store/runs/run"


def mirror(folder: Path, url: str, claim: int = 0, *, light: bool = False) -> Mirror:
    made = Mirror(folder, url, light=light)
    made.segments.claim = claim
    (folder / CURVE).parent.mkdir(parents=True, exist_ok=True)
    return made


def append(at: Mirror, text: str) -> None:
    with open(at.here / CURVE, "a") as file:
        file.write(text)


def curve(at: Mirror) -> str:
    """What a mirror has after a look."""
    at.pull("trials/t")
    return (at.here / CURVE).read_text()


def objects(at: Mirror) -> list[str]:
    return [name for name in at.there() if name.startswith(CURVE)]


class Traffic:
    """Bytes that go up and down by a client, which mirrors of one store share."""

    def __init__(self, at: Mirror, monkeypatch: pytest.MonkeyPatch):
        self.up = self.down = 0
        pipe, cat = at.system.pipe_file, at.system.cat_file

        def piped(path: str, value: bytes, *given: Any, **more: Any) -> Any:
            self.up += len(value)
            return pipe(path, value, *given, **more)

        def read(*given: Any, **more: Any) -> Any:
            content = cat(*given, **more)
            self.down += len(content)
            return content

        monkeypatch.setattr(at.system, "pipe_file", piped)
        monkeypatch.setattr(at.system, "cat_file", read)


def test_of_a_long_curve_only_what_is_new_travels(url, tmp_path, monkeypatch):
    """Up at most three times: as it comes, 32 segments as one, and all of it at the end."""
    worker, driver = mirror(tmp_path / "w", url, 1), mirror(tmp_path / "d", url, light=True)
    traffic = Traffic(worker, monkeypatch)
    looks = 300
    for number in range(looks):
        append(worker, f"{number:099}\n")
        worker.push()
        assert curve(driver).endswith(f"{number:099}\n")
    worker.push(last=True)
    size = 100 * looks
    assert curve(driver) == (worker.here / CURVE).read_text()
    assert len(objects(worker)) == 1
    assert traffic.up <= 3 * size
    assert traffic.down == size


def test_there_are_never_many_segments(url, tmp_path):
    worker = mirror(tmp_path / "w", url, 1)
    for number in range(200):
        append(worker, f"{number}\n")
        worker.push()
        assert len(objects(worker)) <= segments.SMALL + 200 // segments.SMALL
    assert curve(mirror(tmp_path / "other", url)) == (worker.here / CURVE).read_text()


def test_late_segments_of_an_attempt_that_was_superseded_are_joined_to_nothing(url, tmp_path):
    first, driver = mirror(tmp_path / "1", url, 1), mirror(tmp_path / "d", url, light=True)
    append(first, "step 1\nstep 2\n")
    first.push()
    second = mirror(tmp_path / "2", url, 2)
    second.pull()
    second.push(last=True)  # as an attempt begins
    append(first, "step 3 of the first\n")
    first.push()
    assert curve(driver) == "step 1\nstep 2\n"
    append(second, "step 3 of the second\n")
    second.push()
    (first.here / CURVE).write_text("another beginning\n")
    first.push()
    expected = "step 1\nstep 2\nstep 3 of the second\n"
    assert curve(driver) == curve(mirror(tmp_path / "new", url)) == expected
    third = mirror(tmp_path / "3", url, 3)
    assert curve(third) == expected
    third.push(last=True)
    assert len(objects(third)) == 1, "what the first left went too"


def test_curve_that_was_cut_and_grew_longer_again_is_another_curve(url, tmp_path):
    worker, driver = mirror(tmp_path / "w", url, 1), mirror(tmp_path / "d", url, light=True)
    append(worker, "1\n2\n3\n")
    worker.push()
    assert curve(driver) == "1\n2\n3\n"
    for written in ("1\n2\nthree\nfour\n", "1\n", ""):
        (worker.here / CURVE).write_text(written)
        worker.push()
        assert curve(driver) == curve(mirror(tmp_path / uuid.uuid4().hex, url)) == written


def test_whole_file_of_an_earlier_version_is_read_and_goes_on_in_segments(url, tmp_path):
    old = mirror(tmp_path / "old", url)
    old.system.makedirs(f"{old.path}/trials/t", exist_ok=True)
    old.system.pipe_file(f"{old.path}/{CURVE}", b"step 1\n")
    driver = mirror(tmp_path / "d", url, light=True)
    assert curve(driver) == "step 1\n"
    worker = mirror(tmp_path / "w", url, 1)
    assert curve(worker) == "step 1\n"
    worker.push(last=True)
    append(worker, "step 2\n")
    worker.push()
    assert curve(driver) == curve(mirror(tmp_path / "new", url)) == "step 1\nstep 2\n"
    assert CURVE not in objects(worker)


def test_driver_that_is_started_again_fetches_what_it_lacks(url, tmp_path, monkeypatch):
    worker, driver = mirror(tmp_path / "w", url, 1), mirror(tmp_path / "d", url, light=True)
    append(worker, "step 1\n")
    worker.push()
    curve(driver)
    append(worker, "step 2\n")
    worker.push()
    with open(driver.here / CURVE, "a") as file:
        file.write("st")  # it was killed as it wrote
    again = mirror(tmp_path / "d", url, light=True)
    traffic = Traffic(again, monkeypatch)
    assert curve(again) == "step 1\nstep 2\n"
    assert traffic.down == len("ep 2\n")
    again.push()
    assert traffic.up == 0, "a curve is its worker's"


def test_segments_that_go_away_while_they_are_read_are_looked_for_again(url, tmp_path, monkeypatch):
    worker, driver = mirror(tmp_path / "w", url, 1), mirror(tmp_path / "d", url, light=True)
    for number in range(3):
        append(worker, f"{number}\n")
        worker.push()
    listed = driver.there

    def joined_meanwhile(under: str = "") -> Any:
        found = listed(under)
        worker.push(last=True)
        return found

    monkeypatch.setattr(driver, "there", joined_meanwhile)
    assert curve(driver) == "0\n1\n2\n"


def test_segments_that_never_hold_still_are_told(url, tmp_path, monkeypatch):
    worker, driver = mirror(tmp_path / "w", url, 1), mirror(tmp_path / "d", url, light=True)
    append(worker, "0\n")
    worker.push()
    gone = FileNotFoundError("gone")
    monkeypatch.setattr(driver.system, "cat_ranges", lambda paths, *_: [gone for _ in paths])
    with pytest.raises(Unreachable, match="go away while they are read"):
        curve(driver)


def test_deleted_trial_takes_its_segments_with_it(url, tmp_path):
    worker = mirror(tmp_path / "w", url, 1)
    append(worker, "0\n")
    worker.push()
    (worker.here / CURVE).unlink()
    worker.push()
    assert worker.there() == {}


@pytest.mark.parametrize("seed", range(30))
def test_whatever_happens_the_curve_is_that_of_the_attempt_at_work(seed, tmp_path, monkeypatch):
    """Lines, cuts, failed uploads, further attempts and late uploads of earlier ones, at random."""
    chance, url = random.Random(seed), f"memory://bucket-{uuid.uuid4().hex}/run"
    monkeypatch.setattr(segments, "SMALL", 3)
    driver = mirror(tmp_path / "d", url, light=True)
    attempts = [mirror(tmp_path / "0", url, 1)]
    append(attempts[0], "begun\n")
    attempts[0].push()
    for number in range(1, 60):
        at = attempts[-1]
        match chance.choice(["lines"] * 4 + ["cut", "failed", "attempt", "late", "driver", "last"]):
            case "lines":
                append(at, f"{number} of {len(attempts)}\n" * chance.randrange(4))
                at.push()
            case "cut":
                lines = (at.here / CURVE).read_text().splitlines(keepends=True)
                (at.here / CURVE).write_text("".join(lines[: chance.randrange(len(lines) + 1)]))
                append(at, f"again {number}\n" * chance.randrange(3))
                at.push()
            case "failed":
                append(at, f"{number} failed\n")
                with pytest.MonkeyPatch.context() as patch, pytest.raises(Unreachable):
                    patch.setattr(at.system, "pipe_file", _half_done(at, chance.random() < 0.5))
                    at.push()
                at.push()
            case "attempt":
                attempts.append(mirror(tmp_path / str(number), url, len(attempts) + 1))
                attempts[-1].pull()
                attempts[-1].push(last=True)
            case "late" if len(attempts) > 1:
                old = chance.choice(attempts[:-1])
                append(old, f"late {number}\n" * 5)
                old.push()
            case "driver":
                driver = mirror(tmp_path / "d", url, light=True)
            case "last":
                at.push(last=True)
            case _:
                continue
        expected = (attempts[-1].here / CURVE).read_text()
        assert curve(driver) == expected
        assert curve(mirror(tmp_path / f"new-{number}", url)) == expected


def _half_done(at: Mirror, arrives: bool) -> Any:
    """An upload that fails after it has arrived, or before."""
    pipe = at.system.pipe_file

    def fails(*given: Any, **more: Any) -> None:
        if arrives:
            pipe(*given, **more)
        raise OSError("reset")

    return fails
