"""A completion is drawn by its own random numbers, whatever is written beside it."""

import numpy as np
import pytest
import torch

from trainers.stages import sampling

PROMPT = [[5, 6, 7]]
TOKENS = 6


def written(model, numbers: np.ndarray) -> list[list[int]]:
    ids = torch.tensor(PROMPT * len(numbers))
    with sampling.drawn(model, sampling.Inverse(numbers, 1.0)):
        said = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=True, top_k=0,
            max_new_tokens=TOKENS, min_new_tokens=TOKENS, pad_token_id=0,
        )  # fmt: skip
    return said[:, 3:].tolist()


def test_completions_are_the_same_alone_and_beside_others(tiny):
    every = written(tiny.model, sampling.numbers(0, 3, range(4), 2, TOKENS))
    last = written(tiny.model, sampling.numbers(0, 3, [3], 2, TOKENS))
    assert last == every[6:]
    assert len({tuple(said) for said in every}) == len(every)
    assert "generate" not in vars(tiny.model)


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
