"""What a plan says of memory, against counts by hand and against what torch keeps."""

from pathlib import Path

import pytest
import torch
from rich.console import Console
from transformers import LlamaConfig, LlamaForCausalLM

from sweep.plan import memory, trials
from sweep.terminal import memory as terminal_memory
from sweep.terminal.plan import show_plan
from trainers.models import adapters, quantized, shapes
from trainers.models.shapes import Shape
from trainers.ops import memory as measured
from trainers.specs.adapter import Adapter
from trainers.specs.training import SftSpec

SIZES = {
    "vocab_size": 512, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 2,
    "num_attention_heads": 9, "num_key_value_heads": 3, "tie_word_embeddings": True,
}  # fmt: skip
PARAMETERS = 967_104
RANK_8 = 2 * 8 * (4 * 2 * 192 + 3 * (192 + 512))


def of(load, text, *overrides) -> memory.Memory:
    found = memory.memory(trials.trials(load(text, *overrides))[1])
    assert found is not None
    return found


def test_weights_gradients_and_moments_are_held(load, small):
    assert of(load, small).held == (4 + 2 + 4 + 8) * PARAMETERS
    assert of(load, small, "stages.sft.optimizer=sgd").held == (4 + 2 + 4 + 4) * PARAMETERS
    table = 424 * 192  # with moments in 32 bits, as bitsandbytes advises
    in_8_bits = of(load, small, "stages.sft.optimizer=adamw_8bit")
    assert in_8_bits.held == (4 + 2 + 4 + 2) * PARAMETERS + 6 * table


def test_an_adapter_alone_has_gradients_and_moments(load, small):
    found = of(load, small, "stages.sft.adapter={rank: 8}")
    assert found.held == 6 * (PARAMETERS + RANK_8) + 12 * RANK_8


def test_lanes_have_frozen_weights_in_common(load, small):
    full, adapted = of(load, small), of(load, small, "stages.sft.adapter={rank: 8}")
    assert full.of_lanes(3).held == 3 * full.held
    assert adapted.of_lanes(3).held == 6 * PARAMETERS + 3 * 18 * RANK_8
    assert adapted.of_lanes(3).per_token == 3 * adapted.per_token


def test_model_of_eight_billion_fits_one_card_as_an_adapter_alone(load, small):
    model = "model=allenai/Llama-3.1-Tulu-3-8B"
    full, low = of(load, small, model), of(load, small, model, "stages.sft.adapter={rank: 16}")
    assert full.held == 18 * 8_030_326_784 and full.card() is None
    assert low.card() == 80


OTHER = "stages.sft={{kind: {}, steps: 2, learning_rate: 1e-4, batch_size: 8, {}}}"


@pytest.mark.parametrize(
    ("override", "tokens"),
    [
        ("stages.sft.max_length=4096", 4096),
        ("stages.sft.max_length=128", 1024),
        (OTHER.format("dpo", "data: world:preferences, max_length: 2048"), 4096),
        (OTHER.format("rlvr", "data: world:prompts, max_length: 600"), 600 + 512),
    ],
)
def test_the_smallest_micro_batch_is_the_longest_example(override, tokens, load, small):
    held = of(load, small, override)
    assert held.least - memory.WORKSPACE - held.held == tokens * held.per_token


def test_a_share_of_a_gpu_needs_a_larger_one(load, small, capsys):
    model = ("model=HuggingFaceTB/SmolLM2-1.7B", "resources.gpus_per_trial=0.5")
    grid = load(small, *model)
    show_plan(Console(width=200), grid, trials.trials(grid))
    assert "fits a GPU of 80 GB, of which a trial has 0.5 (estimated)" in capsys.readouterr().out


def test_model_of_eight_billion_in_4_bits_fits_a_card_of_24_gb(load, small):
    model = "model=allenai/Llama-3.1-Tulu-3-8B"
    adapted = of(load, small, model, "stages.sft.adapter={rank: 16, base_weights: nf4}")
    blocks = 32 * (2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14_336)
    top, adapter = 8_030_326_784 - blocks, 41_943_040
    expected = 4.127 / 8 * blocks + 2 * 4096 * 14_336 + 6 * top + (6 + 12) * adapter
    assert adapted.held == pytest.approx(expected, rel=1e-4)
    assert adapted.card() == 24
    trial = trials.trials(load(small, model, "stages.sft.adapter={rank: 16, base_weights: nf4}"))[1]
    assert trial.spec is not None
    scored = memory.of_scoring(trial.model.name, trial.spec)
    assert scored is not None and scored.held == pytest.approx(expected - 12 * adapter, rel=1e-4)
    assert memory.memory(trial, "full", 2) is None


def test_weights_in_4_bits_take_what_the_plan_counts():
    model = LlamaForCausalLM(LlamaConfig(**SIZES))
    whole = sum(weight.numel() for weight in model.parameters())
    quantized.quantize(model, torch.device("cpu"))
    top = sum(w.numel() for w in model.parameters() if w.is_floating_point())
    states = [w.quant_state for w in model.parameters() if not w.is_floating_point()]
    parts = [part for s in states for part in (s.absmax, s.state2.absmax)]
    packed = sum(w.nbytes for w in model.parameters() if not w.is_floating_point())
    each = (packed + sum(part.nbytes for part in parts)) / (whole - top)
    assert each == pytest.approx(memory.IN_4_BITS, rel=1e-3)


def test_sharded_training_holds_its_part_and_what_is_whole_for_so_long(load, small):
    trial = trials.trials(load(small))[1]
    shape = shapes.KNOWN["tiny"]
    block, layer = 3 * 192 * 512, 4 * 192 * 192 + 3 * 192 * 512
    top = PARAMETERS - shape.layers * layer
    passing = (4 * 2 + 2 + 4) * block

    def held(sharding, ranks) -> int:
        found = memory.memory(trial, sharding, ranks)
        assert found is not None
        return found.held

    assert held("full", 4) == 16 * PARAMETERS // 4 + 12 * top + passing
    assert held("optimizer", 4) == held("full", 4) + 2 * shape.layers * layer
    more_gpus = [held("full", ranks) for ranks in (2, 4, 8)]
    assert more_gpus == sorted(more_gpus, reverse=True)


def test_layers_of_dora_are_gathered_whole_in_float32(load, small):
    plain, dora = (
        memory.memory(trials.trials(load(small, f"stages.sft.adapter={one}"))[1], "full", 2)
        for one in ("{rank: 8}", "{rank: 8, dora: true}")
    )
    assert plain is not None and dora is not None
    block, layer = 3 * 192 * 512, 4 * 192 * 192 + 3 * 192 * 512
    lengths = 2 * (4 * 192 + 2 * 512 + 192)
    more = 16 * layer - 8 * block + (4 + 12) * lengths // 2
    assert dora.held - plain.held == more


def test_untrained_and_unknown_models_have_no_estimate(load, small):
    planned = trials.trials(load(small, "model=a/b"))
    assert [memory.memory(trial) for trial in planned] == [None] * len(planned)


@pytest.mark.parametrize(
    "adapter",
    [
        None,
        Adapter(rank=16),
        Adapter(rank=16, base_weights="nf4"),
        Adapter(rank=16, dora=True),
        Adapter(rank=16, dropout=0.05),
    ],
    ids=["full", "lora", "qlora", "dora", "dropout"],
)
@pytest.mark.parametrize(("width", "inner", "heads", "keys"), [(192, 512, 6, 6), (576, 1536, 9, 3)])
def test_activations_are_those_that_torch_keeps(adapter, width, inner, heads, keys):
    config = LlamaConfig(
        vocab_size=512, hidden_size=width, intermediate_size=inner, num_hidden_layers=2,
        num_attention_heads=heads, num_key_value_heads=keys, tie_word_embeddings=True,
    )  # fmt: skip
    model = LlamaForCausalLM(config).float().train()
    if adapter is not None:
        adapters.attach(model, adapter, 0)
    kept = measured.bytes_per_token(model, packed=False, bfloat16=True)
    shape = Shape(2, width, inner, width, width // heads * keys, 512)
    assert shape.activations(adapter) == pytest.approx(kept, rel=0.1)


def test_plan_says_what_fits_where_trials_ask_for_gpus(load, small, capsys):
    def lines(*overrides) -> list[str]:
        grid = load(small, *overrides)
        show_plan(Console(width=200), grid, trials.trials(grid))
        return [line for line in capsys.readouterr().out.splitlines() if "memory:" in line]

    assert lines() == []
    gpu = ("resources.gpus_per_trial=1", "model=allenai/Llama-3.1-Tulu-3-8B")
    assert lines(*gpu)[0].endswith("(an example has up to 128); more than 141 GB (estimated)")
    assert "144.5 GB on each GPU of a trial (sft), and" in lines(*gpu)[0]
    sharded = lines(*gpu, "resources.gpus_per_trial=8", "resources.sharding=full")
    assert "31.1 GB on each GPU" in sharded[0] and sharded[0].endswith("of 48 GB (estimated)")
    adapted = lines(*gpu, "stages.sft.adapter={rank: 16}")
    assert len(adapted) == 1 and "fits a GPU of 80 GB (estimated)" in adapted[0]
    trained, scored = lines(*gpu, "stages.sft.adapter={rank: 16, base_weights: nf4}")
    assert trained.endswith("fits a GPU of 24 GB (estimated)")
    assert scored == (
        "memory: 51.4 GB to score models that are not in 4 bits (base); fits a GPU of 80 GB "
        "(estimated)"
    )


def test_plan_of_a_large_model_says_which_sharding_fits_which_card(load, small, capsys):
    def shown(*overrides) -> list[str]:
        grid = load(small, "resources.gpus_per_trial=1", *overrides)
        show_plan(Console(width=200), grid, trials.trials(grid))
        return capsys.readouterr().out.splitlines()

    lines = shown("model=HuggingFaceTB/SmolLM2-1.7B")
    at = next(n for n, line in enumerate(lines) if line.startswith("sharding "))
    assert [line.split()[0] for line in lines[at + 1 : at + 5]] == [
        "none", "optimizer", "full", "(scoring)",
    ]  # fmt: skip
    assert lines[at + 3].split()[1:4] == ["-", "22.2", "(24)"]
    assert not any(line.startswith("sharding ") for line in shown())


def test_table_of_the_docs_is_the_one_that_the_command_prints(capsys):
    page = (Path(__file__).parents[3] / "docs" / "sharding.md").read_text(encoding="utf-8")
    command = next(line for line in page.splitlines() if "python -m sweep.terminal.memory" in line)
    terminal_memory.main(command.strip("`").split()[3:])
    assert capsys.readouterr().out in page


@pytest.mark.parametrize("model", ["HuggingFaceTB/SmolLM2-1.7B", "allenai/Llama-3.1-Tulu-3-8B"])
def test_table_of_adapters_in_the_docs_is_the_plans(model):
    page = (Path(__file__).parents[3] / "docs" / "sharding.md").read_text(encoding="utf-8")
    whole, packed = (
        SftSpec.model_validate(terminal_memory.PLAIN | {"adapter": {"rank": 16} | base})
        for base in ({}, {"base_weights": "nf4"})
    )
    cells = [
        terminal_memory._cell(held)
        for held in (
            memory.of_training(model, whole),
            memory.of_training(model, packed),
            memory.of_scoring(model, packed),
        )
    ]
    assert f"| {' | '.join([model, *cells])} |" in page
