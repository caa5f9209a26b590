"""What `--calibrate` refuses, and what it holds and writes while it measures."""

import pytest

from sweep.execution.calibration import calibrate, train_speed
from sweep.price import calibration
from sweep.resolve.resolve import CannotStart
from trainers.models import load as models
from trainers.processes import devices

SHARDED = "resources={cpus_per_trial: 2, ranks_per_trial: 2, sharding: full}"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (SHARDED, "trials of sft divide their model over several"),
        ("resources.gpus_per_trial=0.5", "trials ask for 0.5 GPUs each and this machine has none"),
    ],
)
def test_what_one_process_here_cannot_measure_is_refused_at_once(
    load, small, tmp_path, monkeypatch, override, message
):
    monkeypatch.setattr(devices, "visible", lambda: ())
    path = tmp_path / "calibration.json"
    with pytest.raises(CannotStart, match=message) as refused:
        calibrate.measure(load(small, override), path)
    assert str(refused.value).endswith("leave --calibrate out: --dry-run estimates the hours")
    assert not path.exists()


@pytest.fixture
def figures(load, small, tiny, tmp_path, monkeypatch):
    """What one of several processes finds, with the adapters that models are loaded for."""
    loaded_for = []

    def loading(*_, adapter=None):
        loaded_for.append(adapter and adapter.base_weights)
        return tiny

    def of(place, *overrides):
        grid = load(small, *overrides)
        marks = calibration.trainings(grid).items()
        slices = {mark: train_speed.slice_of(grid, training) for mark, training in marks}
        return calibrate._figures(grid, slices, str(tmp_path), place, 0.0), loaded_for

    monkeypatch.setattr(models, "load", loading)
    monkeypatch.setattr(train_speed, "measure", lambda *_: {})
    monkeypatch.setattr(calibrate, "_evaluations", lambda *_: ())
    return of


@pytest.mark.parametrize(("place", "written"), [(0, True), (1, False)])
def test_one_of_all_processes_writes_the_weights(figures, tmp_path, place, written):
    figures(place)
    assert (tmp_path / str(place) / "model").is_dir() == written


def test_whole_weights_are_not_loaded_where_trials_have_them_in_4_bits(figures, tmp_path):
    _, loaded_for = figures(0, "stages.sft.adapter={rank: 4, base_weights: nf4}")
    assert loaded_for == ["nf4"]
    assert not (tmp_path / "0" / "model").exists(), "a trial writes its adapter alone"


def test_out_of_memory_is_told_in_a_sentence(load, small, tmp_path, monkeypatch):
    def full(*_):
        raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(calibrate, "_figures", full)
    monkeypatch.setattr(devices, "restrict", lambda *_: ())
    monkeypatch.setattr(calibrate.process, "prepare", lambda *_: None)
    with pytest.raises(CannotStart, match="--calibrate: out of memory"):
        calibrate._measure(load(small), {}, str(tmp_path), 0, 0.0, 0.0)
