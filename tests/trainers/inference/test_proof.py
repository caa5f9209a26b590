"""Packed forwards are proved on an architecture, not on weights."""

import copy

import pytest
import torch

from trainers.inference import harness_model, proof
from trainers.inference.decoder import Decoder


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch):
    monkeypatch.setattr(proof, "_known", {})


@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0, float("nan")])
def test_weights_do_not_decide_which_class_scores(scale, fresh):
    with torch.no_grad():
        for parameter in fresh.model.parameters():
            parameter.mul_(scale)
    assert Decoder(fresh.model).model is fresh.model
    assert list(proof._known.values()) == [""]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rounding_is_not_taken_for_an_error(dtype, fresh):
    Decoder(fresh.model.to(dtype))


def test_proof_is_made_once_for_an_architecture(fresh, monkeypatch):
    made = []
    small = proof._small
    monkeypatch.setattr(proof, "_small", lambda model: made.append(1) or small(model))
    for _ in range(3):
        Decoder(copy.deepcopy(fresh.model))
    assert len(made) == 1


def test_proof_leaves_model_and_random_numbers_alone(fresh):
    before = {name: weight.clone() for name, weight in fresh.model.state_dict().items()}
    config = fresh.model.config.to_json_string()
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    Decoder(fresh.model)
    assert torch.equal(torch.rand(3), expected)
    assert fresh.model.config.to_json_string() == config
    assert all(torch.equal(before[n], w) for n, w in fresh.model.state_dict().items())


def shifted(span: type) -> type:
    """Attention that sees one token too many, as a wrong mask does."""

    class Shifted(span):
        def attend(self, layer, query, key, value, scale):
            self.groups = [group._replace(mask=group.mask.roll(1, -1)) for group in self.groups]
            return super().attend(layer, query, key, value, scale)

    return Shifted


def test_wrong_mask_is_seen(fresh, monkeypatch):
    monkeypatch.setattr(proof, "Span", shifted(proof.Span))
    with pytest.raises(proof.Unservable, match="other log-probabilities"):
        Decoder(fresh.model)


def test_wrong_positions_are_seen(fresh, monkeypatch):
    body = Decoder.body
    monkeypatch.setattr(Decoder, "body", lambda self, ids, at, to: body(self, ids, at * 2, to))
    with pytest.raises(proof.Unservable, match="other log-probabilities"):
        Decoder(fresh.model)


def test_copy_in_bfloat16_keeps_the_positions_and_the_ties(fresh):
    copied = harness_model.in_bfloat16(fresh.model)
    assert {weight.dtype for weight in copied.parameters()} == {torch.bfloat16}
    assert {weight.dtype for weight in fresh.model.parameters()} == {torch.float32}
    assert dict(copied.named_buffers())["model.rotary_emb.inv_freq"].dtype == torch.float32
    assert copied.lm_head.weight is copied.model.embed_tokens.weight
    with torch.inference_mode():
        ids = torch.arange(400)[None] % 300
        exact, near = fresh.model(ids).logits, copied(ids).logits.float()
    assert (exact - near).abs().mean() < 0.02 * exact.abs().mean()


def test_what_scored_is_in_the_description(fresh):
    lm = harness_model.open_lm(fresh.model, fresh.tokenizer)
    assert harness_model.description(lm) == {
        "model_class": "SharedPrefixLM",
        "dtype": "float32",
        "device": "cpu",
        "cut_prompts": 0,
    }
    stock = harness_model.HFLM(pretrained=fresh.model, tokenizer=fresh.tokenizer)
    assert harness_model.description(stock)["model_class"] == "HFLM"
