"""Each optimizer against its library's own, over three updates of the same gradients."""

import copy

import pytest
import torch
from bitsandbytes.optim.adamw import AdamW8bit
from bitsandbytes.optim.lion import Lion
from torch.optim import SGD, Adafactor, AdamW, Muon

from tests.trainers.small_models import small
from trainers.specs.training import SftSpec
from trainers.steps import optimizers
from trainers.steps.optimizers import optimizer

RATE, DECAY = 1e-2, 0.1


def spec(**settings) -> SftSpec:
    plain = {"kind": "sft", "data": "world:sft", "learning_rate": RATE, "batch_size": 1}
    return SftSpec.model_validate(plain | {"weight_decay": DECAY} | settings)


def groups(parameters) -> list[dict]:
    """As Trainer has them: no decay for vectors."""
    parameters = list(parameters)
    matrices = [p for p in parameters if p.ndim > 1]
    vectors = [p for p in parameters if p.ndim == 1]
    parts = ((matrices, DECAY), (vectors, 0.0))
    return [{"params": some, "weight_decay": decay} for some, decay in parts if some]


def parts(model):
    """The matrices of the layers, and all else; the embeddings, and all else."""
    inner = [p for name, p in model.named_parameters() if "layers" in name and p.ndim == 2]
    table = [model.get_input_embeddings().weight]
    return inner, table


def without(model, some):
    return [p for p in model.parameters() if all(p is not one for one in some)]


def adamw(parameters):
    return AdamW(groups(parameters), lr=RATE, betas=(0.8, 0.95), fused=True)


LIBRARY = {
    "adamw": ({}, lambda m: [adamw(m.parameters())]),
    "sgd": (
        {"sgd_momentum": 0.8, "sgd_nesterov": True},
        lambda m: [SGD(groups(m.parameters()), lr=RATE, momentum=0.8, nesterov=True)],
    ),
    "adafactor": (
        {"adafactor_beta2_decay": -0.5, "adafactor_clip": 2.0},
        lambda m: [Adafactor(groups(m.parameters()), lr=RATE, beta2_decay=-0.5, d=2.0)],
    ),
    "lion": (
        {"lion_beta1": 0.8, "lion_beta2": 0.95},
        lambda m: [Lion(groups(m.parameters()), lr=RATE, betas=(0.8, 0.95))],
    ),
    "adamw_8bit": (
        {},
        lambda m: [
            AdamW8bit(groups(without(m, parts(m)[1])), lr=RATE, betas=(0.8, 0.95)),
            adamw(parts(m)[1]),
        ],
    ),
    "muon": (
        {"muon_momentum": 0.8},
        lambda m: [
            Muon(groups(parts(m)[0]), lr=RATE, momentum=0.8, adjust_lr_fn="match_rms_adamw"),
            adamw(without(m, parts(m)[0])),
        ],
    ),
}


@pytest.mark.parametrize("name", LIBRARY)
def test_three_updates_are_the_librarys(name):
    model = small()
    twin = copy.deepcopy(model)
    own, library = LIBRARY[name]
    adam = {"adam_beta1": 0.8} if name in ("adamw", "adamw_8bit", "muon") else {}
    decaying = {one for one, p in model.named_parameters() if p.ndim > 1}
    ours = optimizer(spec(optimizer=name, **own, **adam), 0.95, model, decaying)
    theirs = library(twin)
    before = [p.detach().clone() for p in model.parameters()]
    for step in range(3):
        for number, (p, q) in enumerate(zip(model.parameters(), twin.parameters(), strict=True)):
            generator = torch.Generator().manual_seed(100 * step + number)
            p.grad = torch.randn(p.shape, generator=generator)
            q.grad = p.grad.clone()
        ours.step()
        for one in theirs:
            one.step()
    for start, p, q in zip(before, model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(p, q)
        assert not torch.equal(p, start)


@pytest.mark.parametrize("name", ["adamw", "adamw_8bit", "lion", "sgd"])
def test_state_takes_the_bytes_that_are_counted_for_it(name):
    """Of matrices that are large enough for 8 bits, and an embedding, which is not in 8 bits."""
    model = small(vocab_size=512, hidden_size=96, intermediate_size=256, num_key_value_heads=4)
    chosen = spec(optimizer=name)
    ours = optimizer(chosen, 0.95, model, set())
    for weight in model.parameters():
        weight.grad = torch.ones_like(weight)
    ours.step()
    kept = [part for of_weight in ours.state.values() for part in of_weight.values()]
    taken = sum(part.nbytes for part in kept if torch.is_tensor(part))
    assert taken == pytest.approx(optimizers.state_bytes(chosen, model), rel=0.06)


def test_adafactor_takes_a_rate_above_the_one_that_torch_ends_at(monkeypatch):
    """From the second step on 0.9 is above 1 / sqrt(step), and 0.4 from the seventh."""
    for rate in (0.4, 0.9):
        model = small()
        twin = copy.deepcopy(model)
        decaying = {one for one, p in model.named_parameters() if p.ndim > 1}
        ours = optimizer(spec(optimizer="adafactor", learning_rate=rate), 0.95, model, decaying)
        theirs = Adafactor(groups(twin.parameters()), lr=rate)
        for step in range(9):
            for number, (p, q) in enumerate(
                zip(model.parameters(), twin.parameters(), strict=True)
            ):
                generator = torch.Generator().manual_seed(100 * step + number)
                p.grad = torch.randn(p.shape, generator=generator)
                q.grad = p.grad.clone()
            ours.step()
            with monkeypatch.context() as patched:
                patched.setattr("torch.optim._adafactor.min", lambda rate, _: rate, raising=False)
                theirs.step()
        for p, q in zip(model.parameters(), twin.parameters(), strict=True):
            assert torch.allclose(p, q, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": "sgd", "adam_beta1": 0.8}, "adam_beta1 is read by adamw and adamw_8bit"),
        ({"optimizer": "lion", "adam_beta2_half_life_tokens": 1e4, "adam_beta2": None},
         "the optimizer is lion"),
        ({"lion_beta1": 0.8}, "lion_beta1 is read by lion alone, and the optimizer is adamw"),
        ({"optimizer": "adam"}, "Input should be 'adamw'"),
        ({"optimizer": "sgd", "sgd_momentum": 0.0, "sgd_nesterov": True}, "needs sgd_momentum"),
    ],
)  # fmt: skip
def test_keys_of_another_optimizer_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        spec(**settings)
