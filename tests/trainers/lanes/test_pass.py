"""A lane is as if alone: its losses, weights, records and checkpoints, whatever lies beside it."""

import copy
import json
import math
from typing import Any

import pytest
import torch

from tests.trainers.lanes.passes import SFT, alone, assert_as_alone, copied, spec, together, weights
from trainers import dispatch
from trainers.lanes import run, steps
from trainers.models import adapters
from trainers.processes import attempt
from trainers.processes.attempt import Stopped, Superseded
from trainers.specs.adapter import Adapter
from trainers.specs.lanes import NotLaned, TooMany, lane_key
from trainers.specs.result import OutOfTime, StageResult
from trainers.steps import checkpoints, records
from trainers.training import compiled

RATES = [
    SFT,
    SFT | {"learning_rate": 3e-3, "weight_decay": 0.1, "adam_beta2": 0.95, "adam_epsilon": 1e-6},
    SFT | {"learning_rate": 1e-2, "max_grad_norm": 0.3, "adam_beta1": 0.8, "schedule": "cosine"},
]


TOLERANCE = {"muon": 0.02}
"""Relative distance of updates. Muon makes its matrices orthogonal in bfloat16, whose rounding it
enlarges."""


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Prepared data."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def trained(tiny, tmp_path, cache):
    """One pass of lanes with the settings, in folders of their own."""
    names = iter(range(100))

    def run(settings, folders=None, **options):
        folders = folders or folders_of(len(settings))
        return together(tiny, cache, folders, settings, **options)

    def folders_of(count):
        name = next(names)
        return [tmp_path / f"pass-{name}" / str(lane) for lane in range(count)]

    run.folders = folders_of
    return run


@pytest.fixture
def single(tiny, tmp_path, cache):
    def run(settings, folder=None):
        return alone(tiny, cache, folder or tmp_path / "alone", settings)

    return run


@pytest.mark.parametrize(
    "settings",
    [
        RATES,
        pytest.param(
            [one | {"tokens_per_micro_batch": 100, "loss": "example_mean"} for one in RATES[:2]],
            marks=pytest.mark.slow,
        ),
        *(
            pytest.param(
                [SFT | {"optimizer": name}, SFT | {"optimizer": name, "learning_rate": 3e-3}],
                marks=pytest.mark.slow,
            )
            for name in ("sgd", "muon", "adafactor")
        ),
    ],
    ids=["adamw", "micro-batches", "sgd", "muon", "adafactor"],
)
def test_a_lane_is_as_if_alone(settings, trained, single, tiny, tmp_path):
    assert len({lane_key(spec(one)) for one in settings}) == 1
    lanes = trained(settings)
    for number, (lane, one) in enumerate(zip(lanes, settings, strict=True)):
        other = single(one, tmp_path / f"alone-{number}")
        assert_as_alone(lane, other, tiny, TOLERANCE.get(one.get("optimizer", ""), 1e-3))
        own = {"lanes", "tokens_per_micro_batch", "train_seconds", "noise_scale_cost"}
        assert lane.figures.keys() == other.figures.keys() | {"lanes"}
        assert lane.figures["lanes"] == len(settings)
        for name, value in other.figures.items():
            if name not in own:
                assert lane.figures[name] == (
                    pytest.approx(value, rel=0.02) if isinstance(value, float) else value
                ), name


def test_what_a_lane_saves_names_the_pad_token_as_a_model_trained_alone_does(
    tiny, trained, single, monkeypatch
):
    """A child that starts from it embeds that token alike."""
    monkeypatch.setattr(tiny.model.config, "pad_token_id", None)
    saved = []
    settings = [one | {"steps": 1, "noise_scale_every": 0} for one in RATES[:2]]
    trained(settings, save=lambda _, loaded, result: saved.append(loaded.model.config.pad_token_id))
    assert saved == [single(settings[0]).model.config.pad_token_id] * 2 != [None] * 2


PAIRS = {
    "learning_rate": 1e-3, "batch_size": 6, "heldout": 3, "max_length": 96, "dtype": "float32",
    "data": {"name": "world:preferences", "examples": 40}, "steps": 4, "noise_scale_every": 2,
    "tokens_per_micro_batch": 400,
}  # fmt: skip


@pytest.mark.parametrize("kind", ["dpo", pytest.param("reward", marks=pytest.mark.slow)])
def test_a_lane_of_pairs_is_as_if_alone(kind, trained, single, tiny, tmp_path):
    plain = PAIRS | {"kind": kind}
    settings = [plain, plain | {"learning_rate": 3e-3, "weight_decay": 0.1}]
    assert len({lane_key(spec(one)) for one in settings}) == 1
    for number, lane in enumerate(trained(settings)):
        other = single(settings[number], tmp_path / f"alone-{number}")
        assert_as_alone(lane, other, tiny)
        assert lane.weights.keys() == other.weights.keys()
        assert lane.figures.keys() == other.figures.keys() | {"lanes"}
        assert lane.figures["rewards_margin"] == pytest.approx(
            other.figures["rewards_margin"], rel=1e-3
        )


@pytest.mark.parametrize(
    "kind", ["sft", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("dpo", "reward"))]
)
def test_a_lane_of_an_adapter_is_as_if_alone(kind, trained, single, tiny, tmp_path):
    plain = (SFT if kind == "sft" else PAIRS | {"kind": kind}) | {"adapter": {"rank": 4}}
    settings = [plain, plain | {"learning_rate": 1e-2, "weight_decay": 0.1}]
    assert len({lane_key(spec(one)) for one in settings}) == 1
    start = {name: p.detach().clone() for name, p in tiny.model.named_parameters()}
    kept: dict[int, dict[str, torch.Tensor]] = {}
    below: list[set[int]] = []

    def merged(number, loaded, result):
        below.append({p.data_ptr() for p in loaded.model.parameters() if not p.requires_grad})
        model = adapters.copied_to_host(loaded.model)
        adapters.merge(model)
        kept[number] = weights(model)

    for number, lane in enumerate(trained(settings, save=merged)):
        other = single(settings[number], tmp_path / f"alone-{number}")
        assert lane.figures["trained_parameters"] == other.figures["trained_parameters"]
        assert lane.figures["model_parameters"] == other.figures["model_parameters"]
        for here, there in zip(lane.lines, other.lines, strict=True):
            assert here["loss"] == pytest.approx(there["loss"], rel=1e-4)
        adapters.merge(other.model)
        there = dict(other.model.named_parameters())
        assert kept[number].keys() == there.keys()
        moved = False
        for name, weight in kept[number].items():
            assert (weight - there[name]).norm() <= 1e-3 * there[name].norm()
            moved |= name in start and not torch.equal(weight, start[name])
        assert moved
    assert below[0] and below[0] == below[1], "frozen weights are there once"


def test_frozen_weights_of_lanes_are_those_of_the_model_that_they_start_from(fresh):
    start = {name: p.data_ptr() for name, p in fresh.model.named_parameters()}
    adapted = run._adapted(fresh.model, Adapter(rank=2), 0)
    frozen = {p.data_ptr() for p in adapted.parameters() if not p.requires_grad}
    assert frozen == set(start.values())
    assert not adapters.attached(fresh.model)


@pytest.mark.slow
def test_lanes_differ(trained):
    """The tolerance is not so wide that a neighbour passes."""
    first, second, third = trained(RATES)
    for other in (second, third):
        assert first.lines[-1]["loss"] != pytest.approx(other.lines[-1]["loss"], rel=1e-3)


WILD = SFT | {"learning_rate": 1e30, "warmup_steps": 0}
CALM = SFT | {"warmup_steps": 0}


@pytest.mark.parametrize("place", [pytest.param(0, marks=pytest.mark.slow), 2])
def test_a_lane_that_diverges_changes_no_bit_of_the_others(place, trained):
    calm = [CALM, CALM | {"learning_rate": 3e-3}]
    plain = trained([*calm[:place], CALM | {"learning_rate": 1e-4}, *calm[place:]])
    wild = trained([*calm[:place], WILD, *calm[place:]])
    ended = wild[place].result
    assert isinstance(ended, StageResult)
    assert ended.status == "diverged"
    assert "not finite" in ended.reason or "nan" in ended.reason or "inf" in ended.reason
    assert wild[place].figures["steps"] == len(wild[place].lines) < 6
    for number in {0, 1, 2} - {place}:
        assert torch.equal(wild[number].flat, plain[number].flat)
        assert wild[number].lines == plain[number].lines


@pytest.mark.slow
def test_a_lane_that_diverges_is_as_alone(trained, single):
    lane, other = trained([WILD, CALM])[0], single(WILD)
    assert (lane.result.status, lane.result.reason) == (other.result.status, other.result.reason)
    assert len(lane.lines) == len(other.lines)
    assert lane.lines[0]["loss"] == pytest.approx(other.lines[0]["loss"], rel=1e-4)


@pytest.mark.slow
def test_a_loss_far_above_its_start_ends_that_lane_alone(trained, single):
    high = SFT | {"learning_rate": 1.0, "steps": 12, "divergence_factor": 1.2, "warmup_steps": 0}
    lane, beside = trained([high, SFT | {"steps": 12}])
    other = single(high)
    assert "times its start" in other.result.reason
    assert lane.result.status == other.result.status == "diverged"
    assert lane.figures["steps"] == other.figures["steps"] < 12
    assert beside.figures["steps"] == 12


@pytest.mark.slow
def test_pass_ends_when_its_last_lane_does(trained):
    for lane in trained([WILD, WILD | {"learning_rate": 1e29}]):
        assert lane.result.status == "diverged"


def test_running_out_of_memory_halves_the_budget_and_never_the_batch(trained, monkeypatch):
    settings = [one | {"tokens_per_micro_batch": 900, "steps": 2} for one in RATES]
    expected = trained(settings)
    plain, seen = steps.Pass._backward, []

    def backward(self, examples, worth, places):
        seen.append(self.budget.tokens)
        if len(seen) == 2:
            raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 1 TB")
        return plain(self, examples, worth, places)

    monkeypatch.setattr(steps.Pass, "_backward", backward)
    for lane, other in zip(trained(settings), expected, strict=True):
        assert lane.figures["budgets_too_large"] == [900]
        assert lane.figures["tokens_per_micro_batch"] == 450
        assert lane.figures["examples"] == other.figures["examples"]
        for here, there in zip(lane.lines, other.lines, strict=True):
            assert here["loss"] == pytest.approx(there["loss"], rel=1e-4)


@pytest.mark.slow
def test_memory_that_holds_no_step_is_an_error(trained, monkeypatch):
    def backward(self, *_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(steps.Pass, "_backward", backward)
    with pytest.raises(torch.OutOfMemoryError):
        trained(RATES[:2])


def test_lanes_that_memory_does_not_hold_are_too_many(trained, monkeypatch):
    from trainers.lanes import room

    each = room.bytes_per_lane
    monkeypatch.setattr(room, "_left", lambda _: 2.5 * 16 * 967_104 / room.SHARE)
    with pytest.raises(TooMany) as raised:
        trained(RATES)
    assert raised.value.fits == 2
    assert each is room.bytes_per_lane
    assert len(trained(RATES[:2])) == 2


class Killed(Exception):
    pass


@pytest.fixture
def kill_at(monkeypatch):
    """While open, the step dies as by a signal: nothing is saved."""

    def kill(number):
        plain = steps.Pass._step

        def step(self, examples, at):
            if at == number:
                raise Killed
            plain(self, examples, at)

        monkeypatch.setattr(steps.Pass, "_step", step)
        return lambda: monkeypatch.setattr(steps.Pass, "_step", plain)

    return kill


SAVING = [one | {"save_every_steps": 2} for one in RATES]


def test_killed_pass_goes_on_bit_for_bit_without_what_has_ended(trained, kill_at):
    """One of the lanes diverges before, and is not among those that go on."""
    settings = [*SAVING, WILD | {"save_every_steps": 2}]
    settings = [one | {"tokens_per_micro_batch": 600, "warmup_steps": 0} for one in settings]
    whole, folders = trained(settings), trained.folders(4)
    again = kill_at(5)
    with pytest.raises(Killed):
        trained(settings, folders)
    again()
    for lane, other in zip(trained(settings[:3], folders[:3]), whole[:3], strict=True):
        assert torch.equal(lane.flat, other.flat)
        assert lane.lines == other.lines


def test_what_a_killed_pass_knew_is_known_to_the_next(trained, kill_at, monkeypatch):
    """Budgets that were too large, and whether the layers are compiled."""
    settings = [one | {"tokens_per_micro_batch": 900} for one in SAVING[:2]]
    plain, failed, folders = steps.Pass._backward, [], trained.folders(2)

    def backward(self, *arguments):
        if not failed:
            failed.append(self.budget.tokens)
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(self, *arguments)

    again = kill_at(3)
    monkeypatch.setattr(steps.Pass, "_backward", backward)
    with pytest.raises(Killed):
        trained(settings, folders)
    again()
    known = []
    monkeypatch.setattr(compiled, "worthwhile", lambda *facts: known.append(facts[-1]) or "no")
    for lane in trained(settings, folders):
        assert lane.figures["budgets_too_large"] == [900]
    assert known == [False]


def test_what_lies_behind_the_last_live_lane_is_not_computed(trained, monkeypatch):
    widths, plain = [], steps.Pass._step

    def step(self, examples, number):
        widths.append(len(self.stack.weights))
        plain(self, examples, number)

    monkeypatch.setattr(steps.Pass, "_step", step)
    trained([WILD, CALM, CALM | {"learning_rate": 3e-3}])
    assert widths[0] == 3
    assert widths[-1] == 2


@pytest.mark.parametrize(
    "settings",
    [
        SAVING[1],
        *(
            pytest.param(SAVING[0] | {"optimizer": name}, marks=pytest.mark.slow)
            for name in ("sgd", "muon")
        ),
    ],
    ids=["adamw", "sgd", "muon"],
)
def test_a_training_alone_goes_on_from_a_lane_and_a_lane_from_it(
    settings, trained, single, kill_at, tiny, monkeypatch
):
    whole = single(settings)
    again = kill_at(3)
    folders = trained.folders(2)
    settings_of_both = [settings, settings | {"learning_rate": 1e-3}]
    with pytest.raises(Killed):
        trained(settings_of_both, folders)
    again()
    found = checkpoints.newest(folders[0] / records.CHECKPOINTS).checkpoint
    assert found is not None
    assert found.step == 2
    update = TOLERANCE.get(settings.get("optimizer", ""), 1e-3)
    assert_as_alone(single(settings, folders[0]), whole, tiny, update)

    back = trained.folders(2)
    for folder, one in zip(back, settings_of_both, strict=True):
        folder.mkdir(parents=True)
        with monkeypatch.context() as patched, pytest.raises(Killed):
            patched.setattr(records.Records, "_check_start", _killed_after(3))
            single(one, folder)
    assert_as_alone(trained(settings_of_both, back)[0], whole, tiny, update)


def _killed_after(steps_taken: int):
    def check(self, last):
        if self.progress.steps == steps_taken:
            raise Killed

    return check


@pytest.mark.slow
def test_checkpoints_of_other_formats_do_not_exist(trained, single, kill_at, tmp_path):
    """The names and shapes in a lane's checkpoint are those of a training alone."""
    kill_at(3)
    folders = trained.folders(2)
    with pytest.raises(Killed):
        trained(SAVING[:2], folders)
    lane = checkpoints.newest(folders[0] / records.CHECKPOINTS).checkpoint
    spec_alone = SAVING[0] | {"save_every_steps": 2, "steps": 6}
    kept: dict[str, Any] = {}
    plain = checkpoints.save

    def save(folder, step, tensors, state):
        kept.setdefault("tensors", {name: t.clone() for name, t in tensors.items()})
        kept.setdefault("state", json.loads(json.dumps(state)))
        return plain(folder, step, tensors, state)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(checkpoints, "save", save)
        single(spec_alone, tmp_path / "other")
    assert lane is not None
    assert lane.tensors.keys() == kept["tensors"].keys()
    assert lane.state.keys() == kept["state"].keys() | {"lanes"}
    assert lane.state["progress"].keys() == kept["state"]["progress"].keys()
    for name, tensor in kept["tensors"].items():
        assert (lane.tensors[name].dtype, lane.tensors[name].shape) == (tensor.dtype, tensor.shape)


def test_lanes_at_different_steps_do_not_share_a_pass(trained, kill_at):
    again, folders = kill_at(3), trained.folders(2)
    with pytest.raises(Killed):
        trained(SAVING[:2], folders)
    again()
    checkpoints.clear(folders[1] / records.CHECKPOINTS)
    with pytest.raises(NotLaned, match=r"steps \[0, 2\]"):
        trained(SAVING[:2], folders)


def test_asked_to_stop_saves_all_lanes(trained, tiny, tmp_path):
    folders = trained.folders(2)
    for folder in folders:
        folder.mkdir(parents=True)
    with attempt.begun_together(folders), pytest.raises(Stopped):
        attempt.ask_to_stop(folders[1], "the node goes")
        trained(RATES[:2], folders)
    for folder in folders:
        found = checkpoints.newest(folder / records.CHECKPOINTS).checkpoint
        assert found is not None
        assert found.step == 1


def test_a_lane_whose_folder_another_attempt_holds_ends_alone(trained):
    folders = trained.folders(3)
    for folder in folders:
        folder.mkdir(parents=True)
    with attempt.begun_together(folders), attempt.begun(folders[1]):
        pass  # the second one's id stands in the folder now
    with attempt.begun_together(folders) as both:
        files_of = copy.copy(both.parts)
        assert len(files_of) == 3
        (folders[1] / attempt.HOLDER).write_text('{"id": "another"}')
        lanes = trained(RATES, folders)
    assert isinstance(lanes[1].result, Superseded)
    assert not lanes[1].weights
    assert [lane.result.status for lane in (lanes[0], lanes[2])] == ["ok", "ok"]


def test_a_lane_that_cannot_be_saved_ends_alone(trained):
    def save(number, loaded, result):
        if number == 0:
            raise OSError("No space left on device")

    lanes = trained(RATES, save=save)
    assert isinstance(lanes[0].result, OSError)
    assert [lane.result.status for lane in lanes[1:]] == ["ok", "ok"]


def test_time_limit_ends_the_pass(tiny, tmp_path, cache):
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        folder.mkdir()
    with pytest.raises(OutOfTime, match="step 1 of 6"):
        dispatch.train_lanes(
            [spec(one) for one in RATES[:2]], copied(tiny), cache, "base", folders,
            -math.inf, 0, lambda *_: None,
        )  # fmt: skip


def test_several_processes_do_not_train_lanes(trained, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(NotLaned, match="several processes"):
        trained(RATES)


@pytest.mark.slow
def test_a_lane_leaves_an_ordinary_model(trained, tmp_path):
    def save(number, loaded, result):
        loaded.model.save_pretrained(tmp_path / str(number))
        assert loaded.model.config._attn_implementation == "sdpa"

    lanes = trained(RATES[:2], save=save)
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tmp_path / "1")
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, lanes[1].weights[name])
