"""Examples in one row get what each gets alone, forwards and backwards; models that cannot do so
are found out."""

import copy

import pytest
import torch
from transformers import MistralConfig, MistralForCausalLM

from tests.trainers.small_models import CPU, EXAMPLES, small
from trainers.data.forms.tokenize import IGNORED
from trainers.ops import packed_attention
from trainers.ops.packed_attention import rows


@pytest.mark.parametrize("packed", [True, False])
def test_rows_have_every_loss_token_with_its_place_and_owner(packed):
    one = rows(EXAMPLES, packed, CPU)
    flat = one.input_ids.flatten()
    for owner, row in enumerate(EXAMPLES):
        counted = (row.labels[1:] != IGNORED).nonzero()[:, 0]
        mine = one.owners == owner
        assert one.targets[mine].tolist() == row.labels[1:][counted].tolist()
        assert flat[one.places[mine]].tolist() == row.ids[counted].tolist()
    assert len(one.targets) == sum(row.loss_tokens for row in EXAMPLES)


def test_a_packed_row_has_no_token_that_no_loss_hangs_on():
    """The last token of an example predicts nothing; nor do those behind its last label."""
    one = rows(EXAMPLES, True, CPU)
    assert [row.length for row in EXAMPLES] == [6, 19, 1, 7]
    assert one.input_ids.shape == (1, 33)
    assert one.segments is not None
    assert one.segments.bounds.tolist() == [0, 6, 25, 26, 33]


@pytest.mark.parametrize("heads", [4, 2, 1], ids=["as many", "grouped", "one"])
def test_packed_gives_the_hidden_states_and_gradients_of_each_alone(heads):
    model = small(num_key_value_heads=heads)
    alone = copy.deepcopy(model)
    expected = [
        alone.base_model(input_ids=row.ids[None, : row.length]).last_hidden_state[0]
        for row in EXAMPLES
    ]
    with packed_attention.used(model) as packed:
        assert packed
        one = rows(EXAMPLES, True, CPU)
        found = model.base_model(**one.options).last_hidden_state[0]
        weigh = torch.randn(found.shape, generator=torch.Generator().manual_seed(1))
        (found * weigh).sum().backward()
    (torch.cat(expected) * weigh).sum().backward()
    torch.testing.assert_close(found, torch.cat(expected))
    for (name, mine), theirs in zip(model.named_parameters(), alone.parameters(), strict=True):
        if mine.grad is not None:
            torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-5, msg=name)


def test_the_attention_that_transformers_has_lets_packed_examples_see_each_other():
    """So that the proof above is one: without ours the same rows give something else."""
    model = small()
    one = rows(EXAMPLES, True, CPU)
    options = {"input_ids": one.input_ids}
    mixed = model.base_model(**options).last_hidden_state[0]
    with packed_attention.used(model):
        found = model.base_model(**one.options).last_hidden_state[0]
    assert not torch.allclose(mixed[10:], found[10:], atol=1e-2)


def test_a_model_that_looks_back_over_a_window_gets_padded_rows():
    model = small(MistralForCausalLM, MistralConfig, sliding_window=4)
    with packed_attention.used(model) as packed:
        assert not packed
        assert model.config._attn_implementation == "sdpa"


def test_a_model_that_does_not_separate_them_gets_padded_rows(monkeypatch):
    def mixed(module, query, key, value, mask, segments=None, **options):
        return packed_attention.attention(module, query, key, value, mask, **options)

    from transformers import AttentionInterface

    monkeypatch.setitem(AttentionInterface._global_mapping, packed_attention.ATTENTION, mixed)
    with packed_attention.used(small()) as packed:
        assert not packed


def test_the_model_is_left_as_it_was():
    model = small()
    before = model(input_ids=EXAMPLES[0].ids[None]).logits
    with packed_attention.used(model):
        assert model.config._attn_implementation == packed_attention.ATTENTION
    assert model.config._attn_implementation == "sdpa"
    assert torch.equal(model(input_ids=EXAMPLES[0].ids[None]).logits, before)
