"""A completion is drawn by its own random numbers, whatever is written beside it."""

import numpy as np
import pytest
import torch

from trainers.stages import sampling

PROMPT = [5, 6, 7]
TOKENS = 6


def written(model, numbers: np.ndarray, chunks=None, prompts=None, **options) -> list[list[int]]:
    prompts = prompts or [PROMPT] * len(numbers)
    ids = torch.zeros(len(prompts), max(map(len, prompts)), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, -len(prompt) :], mask[row, -len(prompt) :] = torch.tensor(prompt), 1
    options = {"min_new_tokens": TOKENS} | options
    with sampling.drawn(model, numbers, 1.0, 0, chunks or sampling.Chunks()):
        said = model.generate(
            input_ids=ids, attention_mask=mask, do_sample=True, top_k=0, max_new_tokens=TOKENS,
            pad_token_id=0, **options,
        )  # fmt: skip
    assert torch.equal(said[:, : ids.shape[1]], ids)
    return said[:, ids.shape[1] :].tolist()


def test_completions_are_the_same_alone_and_beside_others(tiny):
    every = written(tiny.model, sampling.numbers(0, 3, range(4), 2, TOKENS))
    last = written(tiny.model, sampling.numbers(0, 3, [3], 2, TOKENS))
    assert last == every[6:]
    assert len({tuple(said) for said in every}) == len(every)
    assert "generate" not in vars(tiny.model)


LENGTHS = [[5, 6, 7], [9], list(range(20, 31)), [8, 9], [5, 6]]


def test_chunks_write_what_is_written_at_once(tiny):
    """Some end early, at a token that each may sample."""
    options = {"min_new_tokens": 0, "eos_token_id": list(range(0, 400, 3)), "prompts": LENGTHS}
    numbers = sampling.numbers(0, 1, range(5), 1, TOKENS)
    whole, chunks = written(tiny.model, numbers, **options), sampling.Chunks()
    ended = [said for said in whole if said[-1] == 0]
    assert 0 < len(ended) < 5
    for chunks.most in (1, 2, 3):
        assert written(tiny.model, numbers, chunks, **options) == whole


def test_out_of_memory_halves_the_chunks_and_repeats(tiny, monkeypatch):
    numbers = sampling.numbers(0, 1, range(5), 1, TOKENS)
    whole, chunks = written(tiny.model, numbers, prompts=LENGTHS), sampling.Chunks()
    plain, tried = type(tiny.model).generate, []

    def generate(self, input_ids, **options):
        tried.append(len(input_ids))
        if len(input_ids) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(self, input_ids=input_ids, **options)

    monkeypatch.setattr(type(tiny.model), "generate", generate)
    assert written(tiny.model, numbers, chunks, prompts=LENGTHS) == whole
    assert written(tiny.model, numbers, chunks, prompts=LENGTHS) == whole, "and stay so"
    assert tried == [5, 2, 2, 1, 2, 2, 1]


def test_memory_that_holds_no_completion_is_an_error(tiny, monkeypatch):
    def generate(self, **_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(type(tiny.model), "generate", generate)
    with pytest.raises(torch.OutOfMemoryError):
        written(tiny.model, sampling.numbers(0, 1, range(3), 1, TOKENS))


def test_fewer_completions_fit_the_longer_they_are(tiny):
    short, long = (sampling.fitting(tiny.model, 100, new) for new in (100, 300))
    assert short // 2 == long > 0


@pytest.mark.parametrize("changed", [(1, 3, [3]), (0, 4, [3]), (0, 3, [2])])
def test_seed_step_and_place_decide_the_numbers(changed):
    numbers = sampling.numbers(0, 3, [3], 2, TOKENS)
    assert numbers.shape == (2, TOKENS) and (numbers >= 0).all() and (numbers < 1).all()
    assert not np.isin(sampling.numbers(*changed, 2, TOKENS), numbers).any()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_come_as_often_as_they_are_probable(temperature):
    scores = torch.tensor([1.0, -torch.inf, 0.0, 2.5, -1.0])
    count = 20_000
    numbers = np.random.default_rng(0).random((count, 1))
    left = sampling.Inverse(numbers, temperature)(torch.empty(0), scores.repeat(count, 1))
    assert ((left == 0).sum(dim=1) == 1).all() and torch.isinf(left).sum() == 4 * count
    often = np.bincount(left.argmax(dim=1), minlength=5) / count
    probable = (scores / temperature).softmax(dim=0).numpy()
    assert often[1] == 0
    assert np.abs(often - probable).max() < 4 * np.sqrt(0.25 / count)


def test_number_at_either_end_is_a_token_that_is_possible():
    scores = torch.tensor([[-torch.inf, 0.0, 0.0, -torch.inf]]).repeat(2, 1)
    ends = np.array([[0.0], [np.nextafter(1.0, 0.0)]])
    assert sampling.Inverse(ends, 1.0)(torch.empty(0), scores).argmax(dim=1).tolist() == [1, 2]
