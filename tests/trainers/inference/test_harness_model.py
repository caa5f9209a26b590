"""The fast model class on random weights: lm-eval's own numbers, for less work.

The stock class at batch size 1 is the truth throughout; `test_harness_model_real.py` has the real
model.
"""

import copy
import warnings
from typing import Any

import pytest
import torch
import transformers
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from tokenizers import processors

from trainers.inference import harness_model, token_budget
from trainers.inference.harness_model import SharedPrefixLM

PREAMBLE = "The cat sat on the mat. " * 6

CHOICES = [
    (PREAMBLE + question, " " + choice)
    for question in ("Who sat?", "Who sat? Where?", "On what?")
    for choice in ("the cat", "the mat", "the cat sat", "a")
]

REQUESTS = {
    "choices": CHOICES,
    "one token": [(PREAMBLE, letter) for letter in "ABCD"],
    "no context": [("", "The cat"), ("", "A"), ("", "<|im_end|>The cat")],
    "alike": [CHOICES[0]] * 3,
    "spaces that move over": [("The cat ", "sat"), ("The cat", " sat")],
    "longer than the model": [(PREAMBLE * 3, " the cat"), (PREAMBLE * 3, " a"), ("cat " * 90, "a")],
}

PROMPTS = [PREAMBLE + str(n) * n for n in range(9)] + ["mat " * 5, PREAMBLE * 4]


def requests(kind: str, arguments) -> list[Instance]:
    return [
        Instance(request_type=kind, doc={}, arguments=tuple(each), idx=0)  # type: ignore[arg-type]
        for each in arguments
    ]


def stock(model, tokenizer) -> Any:
    make: Any = HFLM
    return make(pretrained=model, tokenizer=tokenizer, batch_size=1)


def both(model, tokenizer) -> tuple[Any, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no falling back
        lm = harness_model.open_lm(model, tokenizer)
    assert isinstance(lm, SharedPrefixLM)
    return lm, stock(model, tokenizer)


@pytest.fixture(scope="module")
def short(tiny):
    """The tiny model, louder and of 128 tokens, so that answers differ and prompts are cut."""
    model = copy.deepcopy(tiny.model)
    model.config.max_position_embeddings = 128
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    return tiny._replace(model=model)


@pytest.fixture(scope="module")
def lms(short):
    return both(short.model, short.tokenizer)


def assert_same(found, expected) -> None:
    assert [a for a, _ in found] == pytest.approx([a for a, _ in expected], rel=0, abs=1e-3)
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]


@pytest.mark.parametrize("arguments", REQUESTS.values(), ids=list(REQUESTS))
def test_log_likelihoods_are_lm_evals_own(arguments, lms):
    ours, theirs = (lm.loglikelihood(requests("loglikelihood", arguments)) for lm in lms)
    assert_same(ours, theirs)


def test_one_of_all_tokens_is_greedy(lms):
    ours, theirs = lms
    words = [theirs.tok_decode([token]) for token in range(theirs.vocab_size)]
    asked = requests(
        "loglikelihood", [("On the mat", word) for word in words if word and word.isascii()]
    )
    found = ours.loglikelihood(asked)
    assert_same(found, theirs.loglikelihood(asked))
    assert sum(greedy for _, greedy in found) == 1


@pytest.mark.parametrize("tokens", [1, 7, 64])
def test_number_of_tokens_at_a_time_changes_no_score(tokens, lms, monkeypatch):
    ours, theirs = lms
    monkeypatch.setattr(token_budget, "CPU_TOKENS", tokens)
    asked = requests("loglikelihood", CHOICES)
    assert_same(ours.loglikelihood(asked), theirs.loglikelihood(asked))


def rows_through(module, work) -> int:
    """Tokens that go through a module while `work` runs."""
    seen = []
    hook = module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[:-1]))
    try:
        work()
    finally:
        hook.remove()
    return sum(shape.numel() for shape in seen)


def read(lm) -> list[tuple[list[int], int]]:
    """What the model reads for each of CHOICES, and from how many tokens on it counts."""
    encoded = [lm._encode_pair(*pair) for pair in CHOICES]
    cut = [((context + said)[-129:-1], len(said)) for context, said in encoded]
    return [(tokens, len(tokens) - counted + 1) for tokens, counted in cut]


def test_each_distinct_prefix_goes_through_the_body_once(lms):
    ours, _ = lms
    prefixes = {tuple(t[:stop]) for t, _ in read(ours) for stop in range(1, len(t) + 1)}
    asked = requests("loglikelihood", CHOICES)
    through = rows_through(ours.model.model.layers[0].mlp, lambda: ours.loglikelihood(asked))
    assert through == len(prefixes)


def test_head_sees_only_positions_that_count(lms):
    ours, _ = lms
    counted = {tuple(t[:stop]) for t, first in read(ours) for stop in range(first, len(t) + 1)}
    asked = requests("loglikelihood", CHOICES)
    assert rows_through(ours.model.lm_head, lambda: ours.loglikelihood(asked)) == len(counted)


def test_rolling_log_likelihoods_are_lm_evals_own(lms):
    asked = requests("loglikelihood_rolling", [(PREAMBLE * 5,), ("cat",)])
    ours, theirs = (lm.loglikelihood_rolling(asked) for lm in lms)
    assert ours == pytest.approx(theirs, rel=0, abs=2e-3)


SETTINGS = {
    "to the end": {"until": [], "max_gen_toks": 30},
    "one token": {"until": [], "max_gen_toks": 1},
    "stop strings": {"until": ["the", "ab", "\n"], "max_gen_toks": 30},
    "one stop string": {"until": "t", "max_gen_toks": 30},
    "as tasks say it": {"until": ["cat"], "do_sample": False, "temperature": 0.0},
}


@pytest.mark.parametrize("slots", [1, 3, 32])
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=list(SETTINGS))
def test_texts_are_lm_evals_own(settings, slots, lms, monkeypatch):
    ours, theirs = lms
    asked_for = {"max_gen_toks": 40} | settings
    monkeypatch.setattr(harness_model.generation, "most_slots", lambda *_: slots)
    asked = requests("generate_until", [(prompt, asked_for) for prompt in [*PROMPTS, PROMPTS[0]]])
    found = ours.generate_until(asked)
    assert found == theirs.generate_until(asked)
    assert len(set(found)) > 3 or asked_for["max_gen_toks"] == 1


@pytest.mark.parametrize("steps", [2, 8])
@pytest.mark.parametrize("slots", [1, 3, 32])
def test_steps_between_looks_change_no_text(steps, slots, lms, monkeypatch):
    """As a GPU does it, for tokens that end in the middle of them."""
    ours, theirs = lms
    monkeypatch.setattr(harness_model.generation, "steps_at_a_time", lambda _: steps)
    monkeypatch.setattr(harness_model.generation, "most_slots", lambda *_: slots)
    settings = {"until": ["the", "ab"], "max_gen_toks": 13}
    asked = requests("generate_until", [(prompt, settings) for prompt in PROMPTS])
    assert ours.generate_until(asked) == theirs.generate_until(asked)


@pytest.fixture(scope="module")
def with_start(short):
    """Both classes with a tokenizer that puts a token before every text, as Llama's does."""
    tokenizer = copy.deepcopy(short.tokenizer)
    start = "<|im_start|>"
    tokenizer.bos_token = start
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A", special_tokens=[(start, tokenizer.bos_token_id)]
    )
    return both(short.model, tokenizer)


@pytest.mark.parametrize("begins", ["", "<|im_start|>user\n"])
def test_start_token_is_put_before_what_has_none(begins, with_start):
    pairs = [(f"{begins}{context}", choice) for context, choice in CHOICES[:6]]
    asked = requests("loglikelihood", [*pairs, ("The cat ", "sat"), ("", "The cat")])
    ours, theirs = (lm.loglikelihood(asked) for lm in with_start)
    assert_same(ours, theirs)
    settings = {"until": [], "max_gen_toks": 9}
    prompts = [(text, settings) for text in (f"{begins}cat", f"{begins}{PREAMBLE}", "mat")]
    ours, theirs = (lm.generate_until(requests("generate_until", prompts)) for lm in with_start)
    assert ours == theirs


def test_more_answers_at_once_where_they_are_short():
    most = harness_model.generation.most_slots
    assert most("cpu", 64) == most("cuda", 1500) == 256
    assert most("cpu", 256) == 64
    assert most("cpu", 1500) == 32


def test_requests_with_different_settings_keep_their_own(lms):
    settings = [{"until": [], "max_gen_toks": n} for n in (2, 9)]
    asked = requests("generate_until", [(p, settings[n % 2]) for n, p in enumerate(PROMPTS)])
    ours, theirs = (lm.generate_until(asked) for lm in lms)
    assert ours == theirs


def test_finished_answer_makes_room_for_the_next(lms, monkeypatch):
    """Every computed token belongs to an answer in progress: none waits for the longest."""
    ours, _ = lms
    monkeypatch.setattr(harness_model.generation, "most_slots", lambda *_: 2)
    tally = ours.tally = harness_model.generation.Tally()
    length_of = {}
    generate = harness_model.generation.generate

    def measured(decoder, prompts, *options):
        answers = generate(decoder, prompts, *options)
        length_of.update(zip(map(tuple, prompts), map(len, answers), strict=True))
        return answers

    monkeypatch.setattr(harness_model.generation, "generate", measured)
    settings = {"until": ["the", "ab", "c"], "max_gen_toks": 40}
    ours.generate_until(requests("generate_until", [(prompt, settings) for prompt in PROMPTS]))
    lengths = list(length_of.values())
    assert len(set(lengths)) > 2
    assert tally.generated == sum(lengths) - len(lengths), "the first token comes with the prompt"
    assert tally.steps < tally.generated


def test_shared_beginnings_of_prompts_are_computed_once(lms):
    ours, _ = lms
    prompts = PROMPTS[:9]
    prefixes = {
        tuple(tokens[:stop])
        for tokens in map(ours.tok_encode, prompts)
        for stop in range(1, len(tokens) + 1)
    }
    ours.tally = harness_model.generation.Tally()
    settings = {"until": [], "max_gen_toks": 2}
    ours.generate_until(requests("generate_until", [(prompt, settings) for prompt in prompts]))
    assert ours.tally.tokens == len(prefixes)


@pytest.mark.parametrize("slots", [2, 32])
@pytest.mark.parametrize("most", [10**6, 20], ids=["", "out-of-memory"])
def test_log_likelihoods_that_follow_come_from_the_same_passes(slots, most, lms, monkeypatch):
    """As many answers as slots or more, one of them twice, and with a pass that is too large for
    the memory."""
    ours, theirs = lms
    monkeypatch.setattr(harness_model.generation, "most_slots", lambda *_: slots)
    body, passes = ours.decoder.body, []

    def counted(tokens, positions, attend):
        if len(tokens) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        passes.append(len(tokens))
        return body(tokens, positions, attend)

    monkeypatch.setattr(ours.decoder, "body", counted)
    settings = {"until": [], "max_gen_toks": 5}
    asked = [*PROMPTS, PROMPTS[0]]
    prompts = requests("generate_until", [(prompt, settings) for prompt in asked])
    follow = {prompt: [(prompt, " the pear"), (prompt + " The", " sky")] for prompt in asked}
    later = requests("loglikelihood", [pair for prompt in asked for pair in follow[prompt]])
    with ours.expecting(lambda request: follow[request.args[0]]):
        texts = ours.generate_until(prompts)
        before = len(passes)
        found = ours.loglikelihood(later)
        assert len(passes) == before, "they were known"
        again = ours.loglikelihood(later)
        assert len(passes) > before, "and are not kept"
    assert texts == theirs.generate_until(prompts)
    assert_same(found, theirs.loglikelihood(later))
    assert_same(again, found)


def test_out_of_memory_halves_the_budget_and_repeats(lms, monkeypatch):
    ours, theirs = lms
    body = ours.decoder.body
    refused = []

    def small(tokens, positions, attend):
        if len(tokens) > 20:
            refused.append(len(tokens))
            raise torch.OutOfMemoryError("CUDA out of memory")
        return body(tokens, positions, attend)

    monkeypatch.setattr(ours.decoder, "body", small)
    asked = requests("loglikelihood", CHOICES)
    assert_same(ours.loglikelihood(asked), theirs.loglikelihood(asked))
    assert refused
    settings = {"until": [], "max_gen_toks": 5}
    asked = requests("generate_until", [(prompt, settings) for prompt in PROMPTS])
    assert ours.generate_until(asked) == theirs.generate_until(asked)


def test_memory_that_is_never_enough_is_an_error(lms, monkeypatch):
    ours, _ = lms

    def never(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(ours.decoder, "body", never)
    with pytest.raises(MemoryError, match="16 tokens"):
        ours.loglikelihood(requests("loglikelihood", CHOICES))


def state(model) -> dict[str, Any]:
    return {
        "attention": model.config._attn_implementation,
        "training": [module.training for module in model.modules()],
        "config": model.config.to_dict(),
        "weights": {name: weight.clone() for name, weight in model.state_dict().items()},
        "hooks": len(model._forward_pre_hooks),
    }


@pytest.mark.parametrize("training", [True, False])
def test_model_is_as_it_was(training, fresh, monkeypatch):
    fresh.model.train(training)
    before = state(fresh.model)
    lm: Any = harness_model.open_lm(fresh.model, fresh.tokenizer)
    lm.loglikelihood(requests("loglikelihood", CHOICES))
    settings = {"until": [], "max_gen_toks": 3}
    lm.generate_until(requests("generate_until", [("cat", settings)]))
    monkeypatch.setattr(lm.decoder, "head", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        lm.loglikelihood(requests("loglikelihood", CHOICES))
    after = state(fresh.model)
    assert all(torch.equal(after["weights"][name], w) for name, w in before["weights"].items())
    assert {**after, "weights": 0} == {**before, "weights": 0}


SMALL = {
    "vocab_size": 400,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "max_position_embeddings": 160,
    "initializer_range": 0.3,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}

FAMILIES = {
    "llama, grouped queries": transformers.LlamaConfig(**SMALL, num_key_value_heads=2),
    "qwen2": transformers.Qwen2Config(**SMALL, num_key_value_heads=3),
    "qwen3": transformers.Qwen3Config(**SMALL, num_key_value_heads=3, head_dim=16),
    "olmo2": transformers.Olmo2Config(**SMALL, num_key_value_heads=6),
    "mistral": transformers.MistralConfig(**SMALL, num_key_value_heads=2, sliding_window=None),
    "gpt-neox": transformers.GPTNeoXConfig(**SMALL),
}


def family(config, tokenizer) -> Any:
    torch.manual_seed(0)
    config = copy.deepcopy(config)
    config.vocab_size = len(tokenizer)
    return transformers.AutoModelForCausalLM.from_config(config).eval()


@pytest.mark.parametrize("config", FAMILIES.values(), ids=list(FAMILIES))
def test_standard_decoders_are_served(config, tiny):
    ours, theirs = both(family(config, tiny.tokenizer), tiny.tokenizer)
    asked = requests("loglikelihood", CHOICES)
    assert_same(ours.loglikelihood(asked), theirs.loglikelihood(asked))
    settings = {"until": ["x"], "max_gen_toks": 20}
    asked = requests("generate_until", [(prompt, settings) for prompt in PROMPTS])
    assert ours.generate_until(asked) == theirs.generate_until(asked)


OTHERS = {
    "a sliding window": (
        transformers.MistralConfig(**SMALL, num_key_value_heads=2, sliding_window=8),
        "sliding window",
    ),
    "a head with more to it": (
        transformers.Gemma2Config(**SMALL, num_key_value_heads=2, head_dim=16),
        "stock model class is used",
    ),
    "scaled logits": (
        transformers.GraniteConfig(**SMALL, num_key_value_heads=2, logits_scaling=3.0),
        "other log-probabilities",
    ),
}


@pytest.mark.parametrize(("config", "reason"), OTHERS.values(), ids=list(OTHERS))
def test_model_that_cannot_be_served_gets_the_stock_class_and_says_why(config, reason, tiny):
    model = family(config, tiny.tokenizer)
    before = model.config._attn_implementation
    with pytest.warns(UserWarning, match=reason):
        lm = harness_model.open_lm(model, tiny.tokenizer)
    assert type(lm) is HFLM
    assert model.config._attn_implementation == before


def test_settings_beyond_the_most_probable_token_are_the_stock_classs(lms):
    ours, _ = lms
    settings = {"until": [], "max_gen_toks": 5, "do_sample": True, "temperature": 0.7}
    with pytest.warns(UserWarning, match="do_sample: True"):
        texts = ours.generate_until(requests("generate_until", [("cat", settings)] * 2))
    assert len(texts) == 2


def test_model_with_a_penalty_of_its_own_generates_as_it_asks(short):
    model = copy.deepcopy(short.model)
    model.generation_config.repetition_penalty = 1.5
    ours, theirs = both(model, short.tokenizer)
    settings = {"until": [], "max_gen_toks": 20}
    asked = requests("generate_until", [(prompt, settings) for prompt in PROMPTS[:3]])
    with pytest.warns(UserWarning, match="repetition_penalty"):
        found = ours.generate_until(asked)
    assert found == theirs.generate_until(asked)


def test_weights_that_are_no_numbers_have_no_log_likelihood(fresh):
    with torch.no_grad():
        fresh.model.model.layers[0].mlp.up_proj.weight.fill_(float("nan"))
    ours, theirs = both(fresh.model, fresh.tokenizer)
    asked = requests("loglikelihood", CHOICES[:2])
    for lm in (ours, theirs):
        assert all(value != value for value, _ in lm.loglikelihood(asked))


def test_no_request_has_no_answer(lms):
    ours, _ = lms
    assert ours.loglikelihood([]) == []
    assert ours.generate_until([]) == []
