"""What a plan will take, stated or measured."""

import pytest

from sweep.plan import step_time, trials
from sweep.price import cost
from sweep.terminal.sums import sums
from tests.sweep.price.measuring import measured
from trainers.specs.conditions import FEWEST_COMPILED

PARAMETERS = 967_104
"""Of the tiny model."""


@pytest.fixture
def priced(load):
    """The planned trials of a grid with their prices, by (stage, learning rate)."""

    def of(text, *overrides, measured=None):
        grid = load(text, *overrides)
        planned = trials.trials(grid)
        speeds = measured and measured(grid)
        return grid, planned, [cost.price(grid, trial, speeds) for trial in planned]

    return of


def test_training_takes_six_flops_per_parameter_and_token(priced, small):
    _, _, (base, cell, _) = priced(small, "price.tokens_per_example=30")
    assert cell.tokens == 3 * 4 * 30
    assert cell.train_flops == 6 * PARAMETERS * 360
    assert cell.eval_flops == 2 * PARAMETERS * 8 * 91
    assert (base.tokens, base.train_flops) == (0, 0)


@pytest.mark.parametrize(
    "stated",
    [
        ["price.tokens_per_second=100"],
        ["price.utilisation=0.5", f"price.device_flops={6 * PARAMETERS * 200}"],
    ],
)
def test_hours_follow_from_a_stated_speed(stated, priced, small):
    _, _, (_, cell, _) = priced(small, "price.tokens_per_example=30", *stated)
    assert cell.train_hours == pytest.approx(360 / 100 / 3600)


@pytest.mark.parametrize(
    "more", ["stages.sft.adapter={rank: 8}", "resources.gpus_per_trial=1", "name=plain"]
)
def test_a_stated_speed_is_that_of_what_is_trained(more, priced, small):
    stated = ("price.tokens_per_example=30", "price.tokens_per_second=100")
    _, _, (_, cell, _) = priced(small, *stated, more)
    assert cell.train_hours == pytest.approx(360 / 100 / 3600)


def test_without_a_speed_hours_are_unknown_and_not_nought(priced, small):
    grid, planned, prices = priced(small)
    assert prices[1].tokens is None
    assert cost.total(prices).hours is None
    assert cost.wall_hours(grid, planned, prices, 1, None) is None
    assert cost.places(grid, None) == {}


def test_measured_speed_goes_before_the_stated_one(priced, small):
    _, _, (_, cell, _) = priced(small, "price.tokens_per_second=1", measured=measured)
    assert cell.train_hours == pytest.approx((3 * 0.1 + 360 * 0.01 + 1.0) / 3600)
    assert cell.eval_hours == pytest.approx((1.0 + 0.5 * 8) / 3600)


def test_processes_of_a_trial_divide_what_one_was_measured_to_take(priced, small):
    two = "resources={cpus_per_trial: 2, ranks_per_trial: 2}"
    grid, planned, prices = priced(small, two, measured=measured)
    cell = prices[1]
    assert cell.train_hours == pytest.approx((3 * 0.1 + 360 * 0.01 / 2 + 1.0) / 3600)
    assert cell.eval_hours == pytest.approx((1.0 + 0.5 * 8 / 2) / 3600)
    costs = [trials.cost(trial) for trial in planned]
    lines = list(sums(grid, planned, costs, lambda at_once: prices, measured(grid)))
    assert "(measured in one process, divided by the processes of a trial)" in lines[-2]


def test_benchmark_that_was_not_measured_takes_unknown_hours_and_is_named(priced, small):
    both = "evaluate.benchmarks=[world_choice, world_arithmetic]"
    grid, planned, prices = priced(small, both, measured=measured)
    assert {one.eval_hours for one in prices} == {None}
    costs = [trials.cost(trial) for trial in planned]
    lines = list(sums(grid, planned, costs, lambda at_once: prices, measured(grid)))
    assert lines[-1].startswith("hours: unknown; --calibrate has not measured world_arithmetic")


def test_children_wait_for_their_parent_in_the_wall_time(priced, chain):
    grid, planned, prices = priced(chain, "evaluate.benchmarks=[world_choice]", measured=measured)
    _, first, *seconds = prices
    wall = cost.wall_hours(grid, planned, prices, 2, measured(grid))
    ends = [10 / 3600 + first.hours, 10 / 3600 + first.train_hours + seconds[0].hours]
    assert wall == pytest.approx(min(ends) + seconds[1].hours)


LANES = [
    "resources.lanes=3",
    "stages.sft.grid.learning_rate=[1e-4, 2e-4, 4e-4, 8e-4, 1.6e-3, 3e-3]",
]


@pytest.mark.parametrize(("at_once", "passes_in_a_row"), [(1, 2), (2, 1), (16, 1)])
def test_a_pass_holds_one_place_for_all_its_trials(at_once, passes_in_a_row, priced, small):
    grid, planned, prices = priced(small, *LANES, measured=measured)
    base, cell, *_ = prices
    wall = cost.wall_hours(grid, planned, prices, at_once, measured(grid))
    first = base.hours if at_once < 3 else 0.0
    assert wall == pytest.approx(10 / 3600 + first + passes_in_a_row * 3 * cell.hours)


ON_A_GPU = (
    "model=HuggingFaceTB/SmolLM2-135M",
    "resources.gpus_per_trial=0.5",
    "stages.sft.grid.learning_rate=[0.001]",
    "stages.sft.grid.batch_size=[4,16,128,1024]",
    "stages.sft.data.examples=142868",
    "price.tokens_per_example=700",
    "price.utilisation=0.4",
    "price.device_flops=4.95e14",
    "price.device_bandwidth=1.67e12",
)
"""One epoch of 1e8 tokens at four batch sizes, on half an H100."""


def test_hours_on_a_gpu_grow_with_the_steps_and_not_with_tokens_alone(priced, small):
    _, planned, prices = priced(small.replace("steps: 3", "epochs: 1"), *ON_A_GPU)
    hours = {
        trial.spec.batch_size: one.train_hours
        for trial, one in zip(planned, prices, strict=True)
        if trial.spec is not None
    }
    assert hours[4] > 1.1 * hours[16] > 1.1 * hours[128]
    assert hours[1024] == pytest.approx(hours[128], rel=0.1), "there the arithmetic is the time"
    launches = 35715 * (30 * step_time.TRAINING_LAUNCHES + step_time.OTHER_LAUNCHES)
    assert hours[4] >= launches * step_time.LAUNCH_SECONDS / 3600
    arithmetic = 6 * 134_515_008 * 1e8 / (0.4 * 4.95e14) / 3600
    assert all(one > arithmetic for one in hours.values())


def step_of(tokens: int, share: float) -> float:
    """Seconds on so much of a GPU."""
    size = step_time.Size(134_515_008, 30)
    device = step_time.Device(share * 4e14, share * 3.35e12)
    return step_time.training_step(size, tokens, device, None)


@pytest.mark.parametrize("share", [0.5, 1, 2])
def test_a_small_step_takes_as_long_as_the_host_launches_whatever_the_share(share):
    launches = 30 * step_time.TRAINING_LAUNCHES + step_time.OTHER_LAUNCHES
    assert step_of(10, share) == pytest.approx(launches * step_time.LAUNCH_SECONDS)


@pytest.mark.parametrize("share", [0.25, 0.5, 2])
def test_a_large_step_takes_as_long_as_the_share_computes(share):
    assert step_of(100_000, share) / step_of(100_000, 1) == pytest.approx(1 / share, rel=0.05)


def test_answers_take_a_launch_bound_step_for_each_of_their_tokens():
    size, device = step_time.Size(134_515_008, 30), step_time.Device(4e14, 3.35e12)
    few = step_time.decoding(size, 10, 256, device)
    assert few == pytest.approx(256 * 30 * step_time.DECODING_LAUNCHES * step_time.LAUNCH_SECONDS)
    assert step_time.decoding(size, 256, 256, device) == pytest.approx(few, rel=0.1)
    assert step_time.decoding(size, 257, 256, device) == pytest.approx(2 * few, rel=0.1)


WRITTEN = (*ON_A_GPU, "stages.sft.grid.batch_size=[128]", "evaluate.limit=300")


@pytest.mark.parametrize(
    ("benchmark", "preset", "tokens"),
    [
        ("ifeval", "lm_eval", 1280),
        ("gsm8k", "lm_eval", 256),
        ("gsm8k", "paper", 256),
        ("arc", "lm_eval", 0),
        ("heldout_loss", "paper", 0),
    ],
)
def test_answers_are_priced_as_long_as_the_preset_or_the_task_has_them(
    benchmark, preset, tokens, priced, small
):
    scored = (f"evaluate.benchmarks=[{benchmark}]", f"evaluate.preset={preset}")
    grid, (_, cell), (_, cost_of_cell) = priced(small, *WRITTEN, *scored)
    device = step_time.Device(0.4 * 4.95e14, 1.67e12)
    size = step_time.size_of(grid, cell)
    assert size is not None
    written = step_time.decoding(size, 300, tokens, device) / 3600
    forward = (cost_of_cell.eval_flops or 0.0) / (0.4 * 4.95e14) / 3600
    assert cost_of_cell.eval_hours == pytest.approx(written + forward)


def test_wall_time_is_named_for_several_numbers_of_gpus(load, small):
    grid = load(small, *ON_A_GPU[:2])
    assert cost.places(grid, None) == {"on 1 GPU": 2, "on 8 GPUs": 16, "on 64 GPUs": 128}
    grid = load(small, ON_A_GPU[0], "resources.gpus_per_trial=2", "resources.max_concurrent=20")
    assert cost.places(grid, None) == {"on 8 GPUs": 4, "on 64 GPUs": 20}
    grid = load(small)
    assert cost.places(grid, measured(grid)) == {"here": 2}


def test_gpus_that_a_stage_asks_for_count_and_cost(load, small):
    """Hours of GPUs are named, though the grid as a whole asks for none."""
    gpus, priced = "stages.sft.resources={gpus_per_trial: 0.5}", "price.gpu_hour=2.5"
    grid = load(small, gpus, priced, "price.tokens_per_example=30", "price.tokens_per_second=100")
    assert cost.places(grid, None) == {"on 1 GPU": 2, "on 8 GPUs": 16, "on 64 GPUs": 128}
    planned = trials.trials(grid)
    prices = [cost.price(grid, trial, None) for trial in planned]
    costs = [trials.cost(trial) for trial in planned]
    lines = list(sums(grid, planned, costs, lambda at_once: prices, None))
    assert "(estimated; --calibrate measures it)" in lines[-2]
    assert "on 1 GPU (2 at once)" in lines[-1]


def test_layers_are_those_of_the_configuration(tmp_path):
    (tmp_path / "config.json").write_text('{"num_hidden_layers": 7}')
    assert step_time.layers(str(tmp_path)) == 7
    assert step_time.layers("nobody/knows") is None
    assert step_time.layers("HuggingFaceTB/SmolLM2-135M") == 30


LORA = ("stages.sft.adapter={rank: 8}",)
RANK_8 = 2 * 8 * (4 * 2 * 192 + 3 * (192 + 512))
"""Weights of A and B in both layers of the tiny model."""


def test_frozen_weights_take_no_gradients_and_the_adapter_does(priced, small):
    _, _, (_, cell, _) = priced(small, "price.tokens_per_example=30", *LORA)
    assert cell.train_flops == (4 * PARAMETERS + 6 * RANK_8) * 360
    assert cell.eval_flops == 2 * PARAMETERS * 8 * 91, "merged before it is scored"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["model=owner/name"], "hours: unknown (the plan does not know the size of owner/name); "
         "--calibrate measures them, or give price.tokens_per_second"),
        (["evaluate.benchmarks=[lambada_openai]", "price.tokens_per_second=1000"],
         "hours: training 0.0 min, in all unknown (the plan does not know how many tokens "
         "lambada_openai has); --calibrate measures them"),
    ],
)  # fmt: skip
def test_what_hours_lack_is_named(load, small, changes, message):
    grid = load(small, "price.tokens_per_example=30", *changes)
    planned = trials.trials(grid)
    prices = [cost.price(grid, trial, None) for trial in planned]
    costs = [trials.cost(trial) for trial in planned]
    assert [*sums(grid, planned, costs, lambda at_once: prices, None)][-1] == message


def test_a_stated_speed_gives_the_hours_of_a_model_of_unknown_size(load, small):
    stated = ("price.tokens_per_example=30", "price.tokens_per_second=1000")
    hours = [
        cost.price(grid, trials.trials(grid)[1], None).hours
        for grid in (load(small, *stated, *more) for more in ([], ["model=owner/name"]))
    ]
    assert hours[0] == pytest.approx(hours[1])


def test_a_step_of_a_training_too_short_to_be_compiled_takes_longer():
    device, size = step_time.Device(4e14, 3.35e12), step_time.Size(134_515_008, 30)
    short, long = (
        step_time.training_step(size, 1000, device, 32_768, steps=steps)
        for steps in (FEWEST_COMPILED - 1, FEWEST_COMPILED)
    )
    saved = step_time.UNCOMPILED_LAUNCHES - step_time.TRAINING_LAUNCHES
    assert short - long == pytest.approx(30 * saved * step_time.LAUNCH_SECONDS)


def test_rank_and_optimizer_move_what_a_step_takes():
    device = step_time.Device(4e14, 3.35e12)
    full, low, high = (
        step_time.Size(134_515_008, 30, adapter) for adapter in (None, 4_884_480, 39_075_840)
    )
    seconds = [step_time.training_step(one, 1e5, device, 10**6) for one in (low, high, full)]
    assert seconds == sorted(seconds) and seconds[2] > 1.2 * seconds[0]
    sgd = step_time.training_step(full, 1e5, device, 10**6, "sgd")
    assert seconds[2] - sgd == pytest.approx(8 * full.parameters / 3.35e12)
