"""The loss of selected tokens, against torch's cross entropy over the whole of the logits."""

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
)

from tests.trainers.small_models import CPU, EXAMPLES, small
from trainers.data.forms.tokenize import IGNORED
from trainers.ops import chunked_loss, packed_attention
from trainers.ops.chunked_loss import Head, HeadLoss
from trainers.ops.forward_pass import installed
from trainers.ops.packed_attention import rows


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("piece", [10, 10**9], ids=["in pieces", "at once"])
def test_loss_and_gradients_are_those_of_the_definition(bias, piece, monkeypatch):
    monkeypatch.setitem(chunked_loss.PIECE, "cpu", piece * 3)
    torch.manual_seed(0)
    hidden = torch.randn(25, 8, requires_grad=True)
    weight = torch.randn(10, 8, requires_grad=True)
    shift = torch.randn(10, requires_grad=True) if bias else None
    targets, weights = torch.randint(10, (25,)), torch.rand(25)
    found = HeadLoss.apply(hidden, weight, shift, targets, weights)
    leaves = [hidden, weight, *([shift] if shift is not None else [])]
    mine = torch.autograd.grad(3 * found, leaves)
    each = cross_entropy(
        torch.nn.functional.linear(hidden, weight, shift), targets, reduction="none"
    )
    expected = (each * weights).sum()
    torch.testing.assert_close(found, expected)
    theirs = torch.autograd.grad(3 * expected, leaves)
    torch.testing.assert_close(mine, theirs)
    nll = chunked_loss.negative_log_likelihoods(hidden.detach(), weight.detach(), shift, targets)
    torch.testing.assert_close(nll.detach(), each.detach())


def test_huge_logits_do_not_overflow():
    hidden, weight = torch.full((2, 4), 1e4), torch.eye(4) * 1e4
    found = HeadLoss.apply(hidden, weight, None, torch.tensor([0, 1]), torch.ones(2))
    assert float(found) == pytest.approx(2 * torch.tensor(4.0).log().item())


MODELS = {
    "tied": (LlamaForCausalLM, LlamaConfig, {"tie_word_embeddings": True}, True),
    "untied": (LlamaForCausalLM, LlamaConfig, {"tie_word_embeddings": False}, True),
    "scaled": (CohereForCausalLM, CohereConfig, {"logit_scale": 0.3}, False),
    "divided": (GraniteForCausalLM, GraniteConfig, {"logits_scaling": 4.0}, False),
    "capped": (
        Gemma2ForCausalLM, Gemma2Config, {"final_logit_softcapping": 2.0, "head_dim": 8}, False,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_every_head_gives_the_loss_and_gradients_of_the_models_own_logits(name):
    kind, config, settings, plain = MODELS[name]
    model = small(kind, config, **settings).eval()
    head = Head(model)
    assert head.plain == plain
    with packed_attention.used(model) as packed:
        one = rows(EXAMPLES, packed, CPU)
        weights = torch.linspace(0.1, 1, len(one.targets))
        found = head.loss(model, one, weights)
        found.backward()
        each = head.negative_log_likelihoods(model, one)
    mine = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    expected = []
    for row in EXAMPLES:
        logits = model(input_ids=row.ids[None]).logits[0, :-1]
        own = cross_entropy(logits, row.labels[1:], reduction="none", ignore_index=IGNORED)
        expected.append(own[row.labels[1:] != IGNORED])
    (torch.cat(expected) * weights).sum().backward()
    torch.testing.assert_close(each, torch.cat(expected).detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(float(found.detach()), float((each * weights).sum()))
    for parameter_name, parameter in model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(
                mine[parameter_name], parameter.grad, rtol=1e-3, atol=1e-5, msg=parameter_name
            )


@pytest.mark.parametrize("name", MODELS)
def test_losses_by_the_token_have_the_gradients_of_their_weighted_sum(name):
    kind, config, settings, _ = MODELS[name]
    model = small(kind, config, **settings).eval()
    head = Head(model)
    with packed_attention.used(model) as packed:
        one = rows(EXAMPLES, packed, CPU)
        weights = torch.linspace(0.1, 1, len(one.targets))
        head.loss(model, one, weights).backward()
        expected = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        model.zero_grad()
        found = head.token_losses(model, one)
        (found @ weights).backward()
        torch.testing.assert_close(found, head.negative_log_likelihoods(model, one))
    for parameter_name, parameter in model.named_parameters():
        if parameter_name in expected:
            torch.testing.assert_close(
                parameter.grad, expected[parameter_name], rtol=1e-3, atol=1e-5, msg=parameter_name
            )


def test_the_forward_pass_is_lent_and_given_back():
    model = small()
    with packed_attention.used(model), installed(model, Head(model).loss):
        one = rows(EXAMPLES, True, CPU)
        assert model(one, torch.ones(len(one.targets))).shape == ()
    assert "forward" not in vars(model)
    assert model(input_ids=EXAMPLES[0].ids[None]).logits.shape == (1, 7, 100)
