"""What a pass asks of a GPU, counted on fake tensors: far fewer launches for each lane's step than
a training alone, and one synchronisation for all lanes."""

import math

import pytest
from transformers import LlamaConfig

from tests.trainers import varlen_on_cpu
from tests.trainers.dispatch_counter import Counter, fake_model
from trainers import dispatch
from trainers.lanes import steps
from trainers.models import load
from trainers.specs.training import SftSpec
from trainers.training import loop

LAYERS = 3
SETTINGS = {
    "kind": "sft", "data": {"name": "world:sft", "examples": 40}, "learning_rate": 1e-3,
    "batch_size": 6, "heldout": 3, "max_length": 96, "dtype": "bfloat16", "steps": 3,
    "max_grad_norm": 0.01, "noise_scale_every": 0, "tokens_per_micro_batch": 10**6,
}  # fmt: skip


@pytest.fixture
def counted(tiny, tmp_path, monkeypatch):
    """The counter of the last of three steps of a pass of so many lanes; 0: of a training alone."""
    counters: list[Counter] = []

    class Monitor(loop.Monitor):
        def on_step_begin(self, *_, **__):
            self.counter = Counter()
            self.context = self.counter.open()
            self.context.__enter__()

        def on_step_end(self, *arguments, **named):
            self.context.__exit__(None, None, None)
            counters.append(self.counter)
            super().on_step_end(*arguments, **named)

    plain = steps.Pass._step

    def step(self, examples, number):
        with Counter().open() as counter:
            plain(self, examples, number)
        counters.append(counter)

    monkeypatch.setattr(loop, "Monitor", Monitor)
    monkeypatch.setattr(steps.Pass, "_step", step)

    def run(lanes: int, **settings) -> Counter:
        config = LlamaConfig(
            vocab_size=len(tiny.tokenizer), hidden_size=64, intermediate_size=96,
            num_attention_heads=4, num_key_value_heads=2, num_hidden_layers=LAYERS,
            tie_word_embeddings=True,
        )  # fmt: skip
        loaded = load.Loaded(fake_model(config), tiny.tokenizer)
        spec = SftSpec.model_validate(SETTINGS | settings)
        folders = [tmp_path / f"{len(counters)}-{lane}" for lane in range(max(lanes, 1))]
        for folder in folders:
            folder.mkdir()
        common = (tmp_path / "data", "base")
        with varlen_on_cpu.used(), Counter().open():
            if lanes:
                specs = [spec] * lanes
                dispatch.train_lanes(specs, loaded, *common, folders, math.inf, 0, lambda *_: None)
            else:
                dispatch.train(spec, loaded, *common, folders[0])
        return counters[-1]

    return run


@pytest.mark.slow
def test_a_step_of_all_lanes_waits_once_and_calls_attention_once_for_each_layer(counted):
    counter = counted(4)
    assert counter.syncs == ["cpu"]
    assert [call.name for call in counter.attention] == ["_varlen_attn"] * LAYERS


@pytest.mark.slow
def test_ten_lanes_launch_a_fifth_for_each_of_them(counted):
    alone, ten = counted(0), counted(10, noise_scale_every=1)
    assert ten.syncs == ["cpu"]
    assert len(ten.operators) / 10 < len(alone.operators) / 5
