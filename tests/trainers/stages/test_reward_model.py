"""Reward models on the tiny model: the head, the loss, the batch as it was asked for."""

import copy
import json
import math

import pytest
import torch

from sweep.export import usage
from tests.trainers.weights import EXACT, distance, flat
from trainers.data import prepare
from trainers.data.forms import preference_pairs
from trainers.models import chat_template, load
from trainers.ops import judge, packed_attention, pairs
from trainers.ops.judge import scores_of
from trainers.ops.packed_attention import Example
from trainers.specs.preference import RewardSpec
from trainers.stages import reward_model

SPEC = {
    "kind": "reward", "data": {"name": "world:preferences", "examples": 40}, "learning_rate": 1e-3,
    "batch_size": 8, "heldout": 8, "max_length": 128, "dtype": "float32", "steps": 3,
    "noise_scale_every": 0,
}  # fmt: skip

WHOLE = 10**6


@pytest.fixture
def train(tiny, tmp_path):
    """The trained weights and the result."""

    def run(folder: str = "trial", **settings):
        spec = RewardSpec.model_validate(SPEC | settings)
        loaded = tiny._replace(model=copy.deepcopy(tiny.model))
        prepared = prepare.prepare(spec, loaded.tokenizer, tmp_path / "data")
        (tmp_path / folder).mkdir(exist_ok=True)
        result = reward_model.train(spec, loaded, prepared, tmp_path / folder)
        return flat(result.model), result

    return run


def test_head_is_drawn_as_tulu_3_draws_it(fresh):
    body = flat(fresh.model.base_model).clone()
    model = reward_model.with_head(fresh.model, seed=0)
    weight = model.score.weight
    assert weight.shape == (1, 192)
    assert float(weight.std()) == pytest.approx(1 / math.sqrt(193), rel=0.15)
    assert torch.equal(flat(model.base_model), body)


def test_seed_decides_the_head(tiny):
    def head(seed):
        return reward_model.with_head(copy.deepcopy(tiny.model), seed).score.weight

    assert torch.equal(head(1), head(1))
    assert not torch.equal(head(1), head(2))


def test_score_is_what_transformers_computes(fresh):
    """The same texts, padded, through the model class's own forward pass."""
    model = reward_model.with_head(fresh.model, seed=0).eval()
    texts = [torch.arange(5, 25), torch.arange(40, 49), torch.arange(60, 73)]
    sides = [judge.to_be_judged(packed_attention.Example(ids, ids)) for ids in texts]
    with packed_attention.used(model) as packed, torch.no_grad():
        assert packed
        found = judge.scores(model, packed_attention.rows(sides, packed, model.device))
    for ids, score in zip(texts, found, strict=True):
        expected = model(input_ids=ids[None], use_cache=False).logits
        assert float(score) == pytest.approx(float(expected), abs=1e-4)


@pytest.mark.parametrize("budget", [1, 200])
def test_any_budget_takes_the_same_step(budget, train, tiny):
    start = flat(reward_model.with_head(copy.deepcopy(tiny.model), 0))
    whole, _ = train(tokens_per_micro_batch=WHOLE)
    found, _ = train(tokens_per_micro_batch=budget)
    assert distance(found - start, whole - start) < EXACT


def test_measuring_the_noise_scale_takes_the_same_step(train, tiny):
    start = flat(reward_model.with_head(copy.deepcopy(tiny.model), 0))
    whole, _ = train(tokens_per_micro_batch=WHOLE)
    found, result = train(noise_scale_every=1)
    assert result.figures["noise_scale_measurements"] == 3
    assert distance(found - start, whole - start) < EXACT


def test_first_loss_is_that_of_the_untrained_head(train, tiny, tmp_path):
    """By hand, one pair after another, with transformers' own forward pass."""
    _, result = train(batch_size=40, steps=1)
    model = reward_model.with_head(copy.deepcopy(tiny.model), 0).eval()
    spec = RewardSpec.model_validate(SPEC)
    losses = []
    for row in prepare.prepare(spec, tiny.tokenizer, tmp_path / "data").train.with_format("torch"):
        chosen, rejected = (
            float(model(input_ids=side.ids[None], use_cache=False).logits)
            for side in pairs.cut(row)
        )
        losses.append(math.log(1 + math.exp(rejected - chosen)))
    assert result.figures["first_loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-4)


def test_training_learns_which_answer_is_chosen(train, tmp_path):
    _, result = train(steps=40, schedule="constant")
    assert result.figures["rewards_accuracy"] > 0.7
    assert result.figures["smoothed_loss"] < result.figures["first_loss"]
    line = json.loads((tmp_path / "trial" / "metrics.jsonl").read_text().splitlines()[-1])
    assert line["rewards_margin"] == pytest.approx(
        line["rewards_chosen"] - line["rewards_rejected"], abs=1e-4
    )


def test_saved_model_opens_as_a_judge_with_the_same_weights(train, tiny, tmp_path):
    weights, result = train(steps=1)
    result.model.save_pretrained(tmp_path / "model")
    tiny.tokenizer.save_pretrained(tmp_path / "model")
    assert torch.equal(flat(load.load_judge(str(tmp_path / "model")).model), weights)


def test_the_code_of_its_card_reads_it_where_it_was_trained(train, tiny, tmp_path, capsys):
    _, result = train(steps=1)
    folder = tmp_path / "model"
    result.model.save_pretrained(folder)
    tiny.tokenizer.save_pretrained(folder)
    code = usage.judge().removeprefix("```python\n").removesuffix("```")
    exec(code.replace('folder = "."', f"folder = {str(folder)!r}"), {})
    judge = load.load_judge(str(folder))
    turns = [[{"role": "user", "content": "Hello"}], [{"role": "assistant", "content": "Hi!"}]]
    text = preference_pairs.judged(turns[0], turns[1], judge.tokenizer)
    ids = torch.tensor(judge.tokenizer(text, add_special_tokens=False)["input_ids"])
    (score,) = scores_of(judge, [Example(ids, ids)], "float32")
    assert float(capsys.readouterr().out) == pytest.approx(float(score), abs=1e-5)


def test_a_judge_has_one_number_and_a_template_without_today(train, tiny, tmp_path):
    _, result = train(steps=1)
    result.model.save_pretrained(tmp_path / "model")
    tokenizer = copy.deepcopy(tiny.tokenizer)
    tokenizer.chat_template = "{{ strftime_now('%d %b %Y') }}" + tokenizer.chat_template
    tokenizer.save_pretrained(tmp_path / "model")
    judge = load.load_judge(str(tmp_path / "model"))
    said = judge.tokenizer.apply_chat_template([{"role": "user", "content": "a"}], tokenize=False)
    assert said.startswith("26 Jul 2024") and chat_template.date_in(judge.tokenizer) == "2024-07-26"
    result.model.config.num_labels = 2
    result.model.score = torch.nn.Linear(result.model.config.hidden_size, 2, bias=False)
    result.model.save_pretrained(tmp_path / "two")
    tokenizer.save_pretrained(tmp_path / "two")
    with pytest.raises(load.ModelUnavailable, match="it gives 2 numbers; a judge gives one"):
        load.load_judge(str(tmp_path / "two"))


def test_model_that_writes_is_no_judge(tiny, tmp_path):
    tiny.model.save_pretrained(tmp_path / "model")
    tiny.tokenizer.save_pretrained(tmp_path / "model")
    with pytest.raises(load.ModelUnavailable, match="it judges nothing"):
        load.load_judge(str(tmp_path / "model"))


def test_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(load.ModelUnavailable, match="reward model"):
        load.load_judge(str(tmp_path))
