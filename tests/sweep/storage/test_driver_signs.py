"""What the records say of a run's driver, here and in a mirror that was brought from a store."""

import math
import os
import time

import pytest

from sweep.storage import driver_signs
from sweep.storage.driver_lock import HOLDER
from trainers import files
from trainers.files import Damaged

ELSEWHERE = {"id": "x", "pid": 7, "host": "elsewhere", "since": "2026-01-01T12:00:00+00:00"}


def test_record_of_a_dead_driver_elsewhere_says_nothing_is_at_work(tmp_path):
    files.write_json(tmp_path / HOLDER, ELSEWHERE)
    driver = driver_signs.of(tmp_path)
    assert driver.at_work and not driver.told
    os.utime(tmp_path / HOLDER, (0, 0))
    driver = driver_signs.of(tmp_path)
    assert not driver.at_work
    assert driver.told.startswith("its driver (process 7 on elsewhere) has given no sign")


def test_without_any_record_nothing_is_at_work_and_nothing_is_told(tmp_path):
    driver = driver_signs.of(tmp_path)
    assert (driver.at_work, driver.since, driver.told) == (False, math.inf, "")


@pytest.mark.parametrize(("age", "at_work"), [(4.0, True), (900.0, False)])
def test_mirror_tells_of_the_driver_as_its_store_had_it(age, at_work, tmp_path):
    driver_signs.note_seen(tmp_path, "s3://bucket/run", ELSEWHERE, age)
    driver = driver_signs.of(tmp_path)
    assert driver.at_work == at_work
    assert driver.now == pytest.approx(time.time(), abs=5)
    assert f"remote_run s3://bucket/run {tmp_path}" in driver.told
    assert ("no sign for 15 minutes then" in driver.told) != at_work
    files.write_json(tmp_path / HOLDER, ELSEWHERE | {"since": "2026-01-01T13:00:00+00:00"})
    own = driver_signs.of(tmp_path)
    assert own.at_work and not own.told and own.since == driver.since + 3600, "its own counts"


def test_edited_record_of_what_the_store_had_is_refused_by_name(tmp_path):
    files.write_json(tmp_path / driver_signs.SEEN, {"url": "s3://bucket/run"})
    with pytest.raises(Damaged, match=driver_signs.SEEN):
        driver_signs.of(tmp_path)
