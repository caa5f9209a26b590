"""What a training step asks of a GPU, counted on fake tensors: attention once for each layer and
micro-batch, in the dtype of autocast, and one synchronisation."""

import numpy as np
import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import LlamaConfig

from tests.trainers import dispatch_counter, varlen_on_cpu
from tests.trainers.dispatch_counter import Counter, fake_model
from tests.trainers.small_models import EXAMPLES, small
from trainers.data import prepare
from trainers.models import adapters, load
from trainers.ops import likelihood, packed_attention
from trainers.ops.packed_attention import rows
from trainers.ops.reference import Reference
from trainers.specs.adapter import Adapter
from trainers.specs.preference import DpoSpec
from trainers.specs.training import SftSpec
from trainers.stages import dpo, sft
from trainers.training import compiled, loop

LAYERS = 3
COMMON = {
    "learning_rate": 1e-3, "batch_size": 6, "heldout": 3, "max_length": 96, "dtype": "bfloat16",
    "steps": 3, "max_grad_norm": 0.01, "noise_scale_every": 2,
}  # fmt: skip


class StepCounters(loop.Monitor):
    """A counter for each step."""

    counters: list[Counter]

    def on_step_begin(self, *_, **__):
        self.counter = Counter()
        self.context = self.counter.open()
        self.context.__enter__()

    def on_step_end(self, *arguments, **named):
        self.context.__exit__(None, None, None)
        self.counters.append(self.counter)
        super().on_step_end(*arguments, **named)


def fake(tokenizer) -> load.Loaded:
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=96, num_attention_heads=4,
        num_key_value_heads=2, num_hidden_layers=LAYERS, tie_word_embeddings=True,
    )  # fmt: skip
    return load.Loaded(fake_model(config), tokenizer)


KINDS = pytest.mark.parametrize("kind", ["sft", pytest.param("dpo", marks=pytest.mark.slow)])


@pytest.fixture
def steps(tiny, tmp_path, monkeypatch):
    """The counters of the steps of a training on the path of a GPU."""
    StepCounters.counters = []
    monkeypatch.setattr(loop, "Monitor", StepCounters)

    def train(kind: str, **settings) -> list[Counter]:
        loaded = fake(tiny.tokenizer)
        with varlen_on_cpu.used(), Counter().open():
            if kind == "sft":
                data = {"name": "world:sft", "examples": 40}
                spec = SftSpec.model_validate({"kind": kind, "data": data, **COMMON, **settings})
                prepared = prepare.prepare(spec, tiny.tokenizer, tmp_path / "data")
                result = sft.train(spec, loaded, prepared, tmp_path)
            else:
                data = {"name": "world:preferences", "examples": 40}
                spec = DpoSpec.model_validate({"kind": kind, "data": data, **COMMON, **settings})
                prepared = prepare.prepare(spec, tiny.tokenizer, tmp_path / "data")
                zeros = np.zeros((len(prepared.train), 2), np.float32)
                kept = Reference(zeros, zeros[:0], 0)
                result = dpo.train(spec, loaded, prepared, kept, tmp_path)
        assert result.figures["packed"]
        return StepCounters.counters

    return train


@KINDS
def test_attention_is_called_once_for_each_layer_and_micro_batch(kind, steps):
    """The first and the third step measure the noise scale: on two halves of the batch."""
    calls = [step.attention for step in steps(kind, tokens_per_micro_batch=10**6)]
    assert [len(step) for step in calls] == [2 * LAYERS, LAYERS, 2 * LAYERS]
    half = (torch.bfloat16,) * 3
    assert {call for step in calls for call in step} == {("_varlen_attn", half)}


@KINDS
def test_a_step_waits_for_the_device_once(kind, steps):
    for step in steps(kind, tokens_per_micro_batch=100):
        assert step.syncs == ["cpu"]


def test_a_micro_batch_goes_to_the_device_in_two_copies(steps):
    """Tokens, positions, places and targets together, and the weights of the examples."""
    whole, _, _ = steps("sft", tokens_per_micro_batch=10**6, noise_scale_every=0)
    assert len(whole.copies) == 2


def test_heldout_losses_are_read_once(tiny):
    loaded = fake(tiny.tokenizer)
    with Counter().open() as counter, varlen_on_cpu.used():
        likelihood.losses(loaded, EXAMPLES, True)
    assert counter.syncs.count("cpu") == 1
    assert [call.name for call in counter.attention[-LAYERS:]] == ["_varlen_attn"] * LAYERS


def test_a_sync_a_copy_and_a_call_of_attention_are_seen():
    """So that the counts above are some."""
    with Counter().open() as counter:
        tensor = torch.zeros(2, 4, 8).to(torch.device("cpu"), non_blocking=True)
        scaled_dot_product_attention(tensor, tensor, tensor)
        float(tensor.sum())
        torch.tensor([1.0], device=torch.device("cpu"))
    assert isinstance(tensor, dispatch_counter.FakeTensor)
    assert counter.syncs == ["_local_scalar_dense", "copy from pageable memory"]
    assert [call.dtypes for call in counter.attention] == [(torch.float32,) * 3]
    assert counter.copies == [256, 4]


def test_queries_and_keys_are_cast_to_the_dtype_of_the_values(monkeypatch):
    """transformers' RoPE leaves them in float32 under autocast; the kernel would refuse them."""
    arrived = []
    plain = packed_attention.attention

    def spied(module, query, key, value, mask, **options):
        arrived.append((query.dtype, key.dtype, value.dtype))
        return plain(module, query, key, value, mask, **options)

    monkeypatch.setitem(
        packed_attention.AttentionInterface._global_mapping, packed_attention.ATTENTION, spied
    )
    model = small()
    with varlen_on_cpu.used() as calls, packed_attention.used(model, bfloat16=True) as packed:
        assert packed
    assert arrived[-1] == (torch.float32, torch.float32, torch.bfloat16)
    assert set(calls) == {(torch.bfloat16,) * 3}
    assert len(calls) == len(model.model.layers)


def test_the_kernel_for_varying_lengths_gives_what_sdpa_gives():
    model = small().train()
    row = rows(EXAMPLES, True, torch.device("cpu"))

    def states() -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return model.base_model(**row.options).last_hidden_state.float()

    with packed_attention.used(model, bfloat16=True):
        expected = states()
        with varlen_on_cpu.used() as calls:
            found = states()
    assert calls
    assert (found - expected).norm() < 2e-2 * expected.norm()


@pytest.mark.parametrize(
    ("device", "packed", "bfloat16", "micro_batches", "before", "reason"),
    [
        ("cuda", True, True, 5000, None, ""),
        ("cuda", True, True, 4999, None, "4999 micro-batches are fewer than 5000"),
        ("cuda", False, True, 10**6, None, "only packed attention in bfloat16 is"),
        ("cuda", True, False, 10**6, None, "only packed attention in bfloat16 is"),
        ("cpu", True, True, 10**6, None, "the device is cpu"),
        ("cuda", True, True, 4999, True, ""),
        ("cuda", True, True, 5000, False, "it was not when the training began"),
        ("cpu", True, True, 5000, True, "the device is cpu"),
    ],
)
def test_long_trainings_on_a_gpu_are_compiled_and_go_on_as_they_began(
    device, packed, bfloat16, micro_batches, before, reason
):
    assert compiled.worthwhile(device, packed, bfloat16, micro_batches, before) == reason


def test_compiled_layers_serve_all_lengths_without_compiling_again():
    from torch._dynamo.testing import CompileCounterWithBackend

    model, backend = small(), CompileCounterWithBackend("aot_eager")
    with varlen_on_cpu.chosen(), packed_attention.used(model, bfloat16=True):
        with compiled.layers(model, "", backend) as compilation:
            assert compilation == (True, "")
            compiled_once = backend.frame_count
            for lengths in ((5, 3), (30, 2, 9, 4), (64,)):
                compiled.one_row(model, lengths)
            assert backend.frame_count == compiled_once
        assert all(layer._compiled_call_impl is None for layer in model.model.layers)


@pytest.mark.slow
@pytest.mark.parametrize("dora", [False, True])
def test_compiled_layers_with_an_adapter_pass_the_proof(dora):
    """Which compares hidden states and the adapter's gradients with those uncompiled."""
    model = small()
    adapters.attach(model, Adapter(rank=4, dora=dora), 0)
    for name, weight in model.named_parameters():
        if "lora_B" in name:  # at zero A would have no gradient
            torch.nn.init.normal_(weight, std=0.02)
    with (
        varlen_on_cpu.chosen(),
        packed_attention.used(model, bfloat16=True),
        compiled.layers(model, "", "aot_eager") as compilation,
    ):
        assert compilation == (True, "")
        _, gradient = compiled.one_row(model, (5, 3))
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    assert gradient.numel() == trained and gradient.any()


def test_a_compiler_that_fails_leaves_the_model_uncompiled():
    def broken(*_):
        raise FileNotFoundError("no C++ compiler")

    model = small()
    with (
        varlen_on_cpu.chosen(),
        packed_attention.used(model, bfloat16=True),
        compiled.layers(model, "", broken) as compilation,
    ):
        assert not compilation.used
        assert "no C++ compiler" in compilation.reason
        assert model.model.layers[0]._compiled_call_impl is None
        compiled.one_row(model, (5, 3))
