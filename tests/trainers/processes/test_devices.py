"""Which GPUs, how much of their memory and how many cores a process gets, on nodes of any size."""

import builtins
import io
import os
from collections import Counter
from pathlib import Path

import pytest

from trainers.processes import devices

ROOT = Path(__file__).parents[3]
H100 = 80 * 2**30
SHARES = (0.25, 0.5, 1, 2)


def names(count: int) -> tuple[str, ...]:
    return tuple(str(number) for number in range(count))


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        ("", ()),
        ("-1", ()),
        ("NoDevFiles", ()),
        ("0", ("0",)),
        ("3, 1", ("3", "1")),
        ("2,-1,3", ("2",)),
        ("GPU-8932f937,MIG-1a2b", ("GPU-8932f937", "MIG-1a2b")),
    ],
)
def test_visible_devices_are_read_as_cuda_reads_them(value, seen):
    assert devices.visible({"CUDA_VISIBLE_DEVICES": value}) == seen


@pytest.mark.parametrize("count", [0, 1, 2, 8])
def test_without_the_variable_all_installed_gpus_are_visible(count, monkeypatch):
    monkeypatch.setattr(devices, "installed", lambda: count)
    assert devices.visible({}) == names(count)


ON_GPUS = {
    0: {0.25: 0, 0.5: 0, 1: 0, 2: 0},
    1: {0.25: 4, 0.5: 2, 1: 1, 2: 0},
    2: {0.25: 8, 0.5: 4, 1: 2, 2: 1},
    8: {0.25: 32, 0.5: 16, 1: 8, 2: 4},
}


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("count", ON_GPUS)
def test_trials_on_a_node_share_its_gpus_without_overlap(count, share):
    """Every trial sees whole devices or one; no device holds more than it has; none is idle."""
    trials = devices.on_gpus(count, share)
    assert trials == ON_GPUS[count][share]
    load = Counter(
        name for place in range(trials) for name in devices.assigned(names(count), share, place)
    )
    seen = {len(devices.assigned(names(count), share, place)) for place in range(trials)}
    assert seen <= {max(1, int(share))}
    if trials:
        assert load == dict.fromkeys(names(count), round(max(1 / share, 1)))


@pytest.mark.parametrize("share", [0.1, 0.2, 0.3, 1 / 3, 0.15, 0.7])
def test_shares_that_have_no_exact_binary_form_fill_a_gpu(share):
    assert devices.on_gpus(1, share) == {0.1: 10, 0.2: 5, 0.3: 3, 1 / 3: 3, 0.15: 6, 0.7: 1}[share]


@pytest.mark.parametrize(
    ("cpus", "gpus", "cpus_per_trial", "gpus_per_trial", "expected"),
    [
        (64, 8, 4, 0.5, 16),
        (32, 8, 4, 0.5, 8),  # CPUs are what is short
        (64, 0, 4, 0.5, 0),
        (2, 0, 1, 0, 2),
        (0.6, 0, 0.2, 0, 3),  # 0.6 // 0.2 is 2
        (3, 8, 4, 0, 0),
        (8, 3, 1, 2, 1),
    ],
)
def test_trials_at_once_on_a_node(cpus, gpus, cpus_per_trial, gpus_per_trial, expected):
    assert devices.trials_at_once(cpus, gpus, cpus_per_trial, gpus_per_trial) == expected


@pytest.mark.parametrize("before", [None, "", "0", "0,1,2,3,4,5,6,7", "5,7"])
@pytest.mark.parametrize("share", [0, *SHARES])
def test_a_trial_sees_what_it_asks_for(before, share, monkeypatch):
    monkeypatch.setattr(devices, "installed", lambda: 8)
    environ = {} if before is None else {"CUDA_VISIBLE_DEVICES": before}
    there = devices.visible(environ)
    devices.restrict(share, environ=environ)
    assert devices.visible(environ) == there[: devices.per_trial(share)]
    assert devices.per_trial(share) == {0: 0, 0.25: 1, 0.5: 1, 1: 1, 2: 2}[share]
    again = dict(environ)
    devices.restrict(share, environ=again)
    assert again == environ, "a worker that is used again keeps what it has"


@pytest.mark.parametrize("total", [4 * 2**30, 24 * 2**30, H100, 141 * 2**30])
@pytest.mark.parametrize("share", [0.25, 0.5, 1, 2])
def test_shares_of_the_memory_leave_room_for_every_context(total, share):
    fraction = devices.memory_fraction(share, total)
    at_once = devices.on_gpus(1, min(share, 1))
    held_beside = min(devices.CONTEXT, devices.CONTEXT_SHARE * total / at_once)
    assert at_once * (fraction * total + held_beside) == pytest.approx(total)
    assert 0.75 * min(share, 1) < fraction < min(share, 1)


@pytest.mark.parametrize("ranks", [1, 2, 8])
def test_ranks_of_one_trial_meet_at_one_port_and_have_a_device_each(ranks):
    parts = [
        devices.rank_environment(rank, rank, ranks, ranks, "127.0.0.1", 29500)
        for rank in range(ranks)
    ]
    assert [part["LOCAL_RANK"] for part in parts] == [str(rank) for rank in range(ranks)]
    assert {part["WORLD_SIZE"] for part in parts} == {str(ranks)}
    assert len({(part["MASTER_ADDR"], part["MASTER_PORT"]) for part in parts}) == 1
    assert not any("CUDA_VISIBLE_DEVICES" in part for part in parts), "the trial has decided that"


CGROUPS = {
    "v2": {"/sys/fs/cgroup/cpu.max": "400000 100000"},
    "v1": {
        "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "400000",
        "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
    },
    "v2, part of a core": {"/sys/fs/cgroup/cpu.max": "350000 100000"},
    "v2, no quota": {"/sys/fs/cgroup/cpu.max": "max 100000"},
    "v1, no quota": {
        "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
        "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
    },
    "none": {},
}


@pytest.mark.parametrize("kind", CGROUPS)
def test_cores_keep_to_the_quota_of_the_cgroup(kind, monkeypatch):
    """A pod of 4 CPUs on a host of 96 cores, whose affinity knows no quota."""
    files = CGROUPS[kind]
    real_open, real_exists = builtins.open, os.path.exists

    def opened(path, *arguments, **options):
        if str(path) in files:
            return io.StringIO(files[str(path)])
        return real_open(path, *arguments, **options)

    def exists(path):
        name = str(path)
        return name in files if name.startswith("/sys/fs/cgroup") else real_exists(path)

    monkeypatch.setattr(builtins, "open", opened)
    monkeypatch.setattr(os.path, "exists", exists)
    monkeypatch.setattr(os, "cpu_count", lambda: 96)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(96)))
    assert devices.cores() == (96 if kind in ("v2, no quota", "v1, no quota", "none") else 4)


COUNTS_CORES = ("cpu_count", "sched_getaffinity", "process_cpu_count")


def test_cores_are_counted_in_one_place():
    elsewhere = {
        path.relative_to(ROOT).as_posix()
        for package in ("sweep", "trainers", "analysis")
        for path in (ROOT / package).rglob("*.py")
        if any(name in path.read_text(encoding="utf-8") for name in COUNTS_CORES)
    }
    assert elsewhere == {"trainers/processes/devices.py"}
