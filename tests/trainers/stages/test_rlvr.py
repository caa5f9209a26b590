"""RLVR on the tiny model: TRL's advantages by hand, the batch as it was asked for, the records."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import trl

from tests.trainers.weights import EXACT, distance, flat
from trainers.data import prepare
from trainers.data.forms import preference_pairs
from trainers.data.forms.pairs import Pair
from trainers.evaluate import heldout_reward
from trainers.models import load
from trainers.processes import attempt
from trainers.specs.rlvr import RlvrSpec
from trainers.specs.training import SftSpec
from trainers.stages import rlvr, sampling
from trainers.stages.rollouts import Grpo, Rloo, Rollouts
from trainers.stages.sft import train as tune
from trainers.training.callbacks import Monitor
from trainers.world import generate

SPEC = {
    "kind": "rlvr", "data": {"name": "world:prompts", "examples": 24}, "learning_rate": 1e-3,
    "batch_size": 8, "group_size": 4, "heldout": 4, "max_length": 128, "max_new_tokens": 10,
    "dtype": "float32", "steps": 2,
}  # fmt: skip

"""Of the relative distance between updates, as in test_exact_batches.py."""

ALGORITHMS = pytest.mark.parametrize("algorithm", ["grpo", "rloo"])


def spec(**settings) -> RlvrSpec:
    return RlvrSpec.model_validate(SPEC | settings)


@pytest.fixture
def train(tiny, tmp_path):
    """The update of the weights, the figures and the records; data is shared."""

    def run(folder: str = "trial", **settings):
        asked = spec(**settings)
        loaded = tiny._replace(model=copy.deepcopy(tiny.model))
        prepared = prepare.prepare(asked, loaded.tokenizer, tmp_path / "data")
        (tmp_path / folder).mkdir(exist_ok=True)
        result = rlvr.train(asked, loaded, prepared, tmp_path / folder)
        lines = (tmp_path / folder / "metrics.jsonl").read_text().splitlines()
        return flat(loaded.model) - flat(tiny.model), result, [json.loads(line) for line in lines]

    return run


@pytest.fixture
def rewarded(monkeypatch):
    """Give the completions of every batch these rewards, in place of the world's."""

    def give(*values: float):
        monkeypatch.setattr(rlvr, "verified", lambda completions, **_: list(values))

    return give


@pytest.fixture
def advantages(monkeypatch):
    """Those that TRL made of each batch, in the order of the completions."""
    found = []
    for engine in (Grpo, Rloo):
        plain = engine._part

        def part(self, completions, plain=plain):
            found.append(self.batch["advantages"].tolist())
            return plain(self, completions)

        monkeypatch.setattr(engine, "_part", part)
    return found


TEMPLATE = (
    "{% for turn in messages %}{% if turn.role == 'system' %}{{ raise_exception('no system') }}"
    "{% endif %}<|im_start|>{{ turn.role }}\n{{ turn.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{{ opening }}{% endif %}"
)
"""Of a model that has no system turn, and is told by each row how its answer opens."""


@ALGORITHMS
def test_the_model_is_prompted_with_what_was_prepared(tiny, tmp_path, monkeypatch, algorithm):
    rows = [
        {"prompt": "1 + 2?", "answer": "3", "system": "Be brief."},
        {"prompt": "2 + 2?", "answer": "4", "chat_template_kwargs": {"opening": "The sum is"}},
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    asked = spec(data=str(tmp_path / "rows.jsonl"), heldout=0, steps=1, algorithm=algorithm)
    loaded = load.Loaded(*map(copy.deepcopy, tiny))
    loaded.tokenizer.chat_template = TEMPLATE
    prepared = prepare.prepare(asked, loaded.tokenizer, tmp_path / "data")
    read, generate = [], type(loaded.model).generate

    def told(self, input_ids, attention_mask, **named):
        read.extend(
            ids[mask.bool()].tolist() for ids, mask in zip(input_ids, attention_mask, strict=True)
        )
        return generate(self, input_ids=input_ids, attention_mask=attention_mask, **named)

    monkeypatch.setattr(type(loaded.model), "generate", told)
    rlvr.train(asked, loaded, prepared, tmp_path)
    assert sorted(read) == sorted(4 * [list(ids) for ids in prepared.train["input_ids"]])
    texts = set(loaded.tokenizer.batch_decode(read))
    assert texts == {
        "<|im_start|>user\nBe brief.\n\n1 + 2?<|im_end|>\n<|im_start|>assistant\n",
        "<|im_start|>user\n2 + 2?<|im_end|>\n<|im_start|>assistant\nThe sum is",
    }


def test_the_kl_of_grpo_is_corrected_for_the_policy_that_answered(train, monkeypatch):
    """Said, not left to TRL's default, which has changed."""
    given = []
    monkeypatch.setattr(rlvr.loop, "train", lambda kind, *_: given.append(kind.arguments.keywords))
    with pytest.raises(FileNotFoundError):  # nothing is trained
        train()
    assert given[0]["use_bias_correction_kl"] is True


REWARDS = (1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
"""Of two groups of four."""


def test_grpo_advantages_are_the_formula_by_hand(train, rewarded, advantages):
    rewarded(*REWARDS)
    train(steps=1)
    # (reward - mean) / (standard deviation over 3 + 1e-4): 1/2 and sqrt(1/3); 1/4 and 1/2
    first, second = 0.5 / (np.sqrt(1 / 3) + 1e-4), 1 / (0.5 + 1e-4)
    by_hand = [first, -first, -first, first, *[-second / 4] * 3, 3 * second / 4]
    assert advantages[0] == pytest.approx(by_hand, rel=1e-5)


def test_rloo_advantages_leave_one_out(train, rewarded, advantages):
    rewarded(*REWARDS)
    train(algorithm="rloo", steps=1)
    # reward - mean of the three others; the KL from the start is 0 in the first step
    by_hand = [1 - 1 / 3, -2 / 3, -2 / 3, 1 - 1 / 3, -1 / 3, -1 / 3, -1 / 3, 1]
    assert advantages[0] == pytest.approx(by_hand, abs=1e-4)


@ALGORITHMS
def test_a_batch_without_a_difference_teaches_nothing(train, rewarded, algorithm):
    rewarded(*[1.0] * 8)
    moved, _, lines = train(algorithm=algorithm, steps=1, beta=0.0)
    assert float(moved.norm()) == pytest.approx(0.0, abs=1e-6)
    assert lines[0]["zero_advantage_share"] == 1.0
    assert (lines[0]["reward"], lines[0]["reward_std"]) == (1.0, 0.0)


@ALGORITHMS
def test_the_update_does_not_depend_on_the_token_budget(train, rewarded, algorithm):
    rewarded(*REWARDS)
    whole, _, _ = train("whole", algorithm=algorithm, tokens_per_micro_batch=10**6)
    parts, result, _ = train("parts", algorithm=algorithm, tokens_per_micro_batch=64)
    assert distance(parts, whole) < EXACT
    assert result.figures["tokens_per_micro_batch"] == 64


@ALGORITHMS
def test_the_update_does_not_depend_on_how_many_completions_are_written_at_once(
    train, rewarded, algorithm, monkeypatch
):
    """And each pass is a sign of progress."""
    rewarded(*REWARDS)
    signs = []
    monkeypatch.setattr(attempt, "sign", signs.append)
    whole, _, _ = train("whole", algorithm=algorithm)
    assert signs.count("writing completions") >= 20  # 2 steps of 10 tokens
    monkeypatch.setattr(sampling, "fitting", lambda *_: 3)
    parts, _, _ = train("parts", algorithm=algorithm)
    assert distance(parts, whole) < EXACT


@ALGORITHMS
def test_rounding_between_rollout_and_step_clips_nothing(train, rewarded, algorithm, monkeypatch):
    """In bfloat16 a sum over an answer's tokens moves by more than TRL's clip of 0.2."""
    rewarded(*REWARDS)
    expected, _, _ = train("plain", algorithm=algorithm, steps=1)
    plain = Rollouts._part

    def part(self, completions):
        rounded = plain(self, completions)
        for name in {"old_logps", "old_per_token_logps"} & rounded.keys():
            rounded[name] = rounded[name] + torch.linspace(-0.5, 0.5, len(rounded[name]))
        return rounded

    monkeypatch.setattr(Rollouts, "_part", part)
    found, _, _ = train("rounded", algorithm=algorithm, steps=1)
    assert distance(found, expected) < EXACT


@ALGORITHMS
def test_a_seed_decides_everything(train, rewarded, algorithm):
    rewarded(*REWARDS)
    first, _, lines = train("first", algorithm=algorithm)
    second, _, again = train("second", algorithm=algorithm)
    other, _, _ = train("other", algorithm=algorithm, seed=1)
    assert torch.equal(first, second)
    assert [line["loss"] for line in lines] == [line["loss"] for line in again]
    assert not torch.equal(first, other)


def test_a_killed_training_ends_with_the_same_weights(train, rewarded, monkeypatch):
    rewarded(*REWARDS)
    settings = {"steps": 4, "save_every_steps": 2}
    whole, _, lines = train("whole", **settings)

    def killed(self, last):
        if self.progress.steps == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Monitor, "_check_start", killed)
        train("killed", **settings)
    resumed, result, again = train("killed", **settings)
    assert torch.equal(resumed, whole)
    assert [line["loss"] for line in again] == [line["loss"] for line in lines]
    assert result.figures["steps"] == 4


@ALGORITHMS
def test_every_step_has_its_record(train, rewarded, algorithm):
    rewarded(*REWARDS)
    _, result, lines = train(algorithm=algorithm, steps=6)  # 20 prompts, 2 a step
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    for line in lines:
        assert line["reward"] == line["verified_reward"] == 3 / 8
        assert line["reward_std"] == pytest.approx(np.std(REWARDS, ddof=1), rel=1e-5)
        assert line["zero_advantage_share"] == 0.0
        assert 1 <= line["completion_tokens"] <= 10
        assert 0 <= line["truncated_share"] <= 1
    assert lines[0]["kl"] == pytest.approx(0, abs=1e-5) != lines[-1]["kl"]
    figures = result.figures
    assert result.status == "ok"
    assert (figures["steps"], figures["examples"], figures["epochs"]) == (6, 48, 0.6)
    assert figures["reward"] == pytest.approx(3 / 8)
    assert 48 <= figures["loss_tokens"] <= 480
    assert figures["kl"] is not None


@ALGORITHMS
@pytest.mark.parametrize(
    ("rewards", "means", "shares"),
    [
        ([1.0, np.nan, 0.0, 1.0, np.nan, 1.0, np.nan, 1.0], (4 / 5, 0.2**0.5), (0.5, 3 / 8)),
        ([np.nan] * 8, (0.0, 0.0), (1.0, 1.0)),
    ],
)
def test_completions_without_a_reward_have_no_part_in_means(
    train, rewarded, algorithm, rewards, means, shares
):
    rewarded(*rewards)
    moved, result, (line,) = train(algorithm=algorithm, steps=1, beta=0.0)
    assert result.status == "ok" and bool(torch.isfinite(moved).all())
    assert (line["reward"], line["reward_std"]) == pytest.approx(means)
    assert line["verified_reward"] == line["reward"]
    assert (line["zero_advantage_share"], line["unrewarded_share"]) == shares


def test_held_out_answers_without_a_reward_have_no_part_in_the_mean(tiny, tmp_path):
    mine = tmp_path / "mine.py"
    asked = spec(heldout=6, max_new_tokens=2, reward=f"{mine}:f")
    for given, message in (("[None, 1, None, 3, None, None]", ""), ("[None] * 6", "none of the 6")):
        mine.write_text(f"def f(**all): return {given}")
        heldout = prepare.prepare(asked, tiny.tokenizer, tmp_path / "data").heldout
        if message:
            with pytest.raises(ValueError, match=message):
                heldout_reward.score(tiny, heldout, 2, "float32", asked.reward)
        else:
            (score,) = heldout_reward.score(tiny, heldout, 2, "float32", asked.reward).scores
            assert (score.value, score.n) == (2.0, 2)


def test_an_epochs_last_batch_has_the_prompts_that_are_left(train, monkeypatch):
    sizes = []
    monkeypatch.setattr(
        rlvr,
        "verified",
        lambda completions, **_: sizes.append(len(completions)) or [0.0] * sizes[-1],
    )
    _, result, _ = train(batch_size=32, steps=None, epochs=1)
    assert sizes == [32, 32, 16]
    assert result.figures["epochs"] == 1.0


def test_a_loss_that_is_not_finite_is_a_result(train, rewarded):
    rewarded(*REWARDS)
    _, result, _ = train(learning_rate=1e30, max_grad_norm=0, steps=5)
    assert result.status == "diverged"
    assert "step" in result.reason


def test_nothing_of_the_sampling_stays_in_the_model(tiny, tmp_path, rewarded):
    rewarded(*REWARDS)
    loaded = tiny._replace(model=copy.deepcopy(tiny.model))
    prepared = prepare.prepare(spec(), loaded.tokenizer, tmp_path / "data")
    rlvr.train(spec(temperature=0.7), loaded, prepared, tmp_path)
    before, after = (one.generation_config.to_dict() for one in (tiny.model, loaded.model))
    assert after == before
    assert "forward" not in vars(loaded.model)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"batch_size": 6}, "a multiple of 4, as 4, 8 or 16"),
        ({"group_size": 1, "batch_size": 4}, "greater than or equal to 2"),
        ({"steps": None, "tokens": 10}, "tokens is not known"),
        ({"warmup_ratio": None, "warmup_tokens": 10}, "warmup_tokens is not known"),
        ({"temperature": 0.0}, "greater than 0"),
        ({"noise_scale_every": 5}, "less than or equal to 0"),
    ],
)
def test_what_cannot_be_is_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        spec(**settings)


def test_a_long_prompt_is_left_out_and_a_truth_that_cannot_be_graded_is_told(tiny, tmp_path):
    rows = [
        {"messages": [{"role": "user", "content": text}], "ground_truth": "3", "dataset": "gsm8k"}
        for text in ("What is 1 + 2?", "x " * 500, "What is 2 + 1?")
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    asked = spec(data=str(file), heldout=0)
    found = prepare.prepare(asked, tiny.tokenizer, tmp_path / "data")
    assert (found.counts["train"], found.counts["dropped"]) == (2, 1)
    file.write_text(json.dumps(rows[0] | {"dataset": "chess"}))
    with pytest.raises(ValueError, match=r"row 1: dataset 'chess' has no grader; use one of gsm8k"):
        prepare.prepare(asked, tiny.tokenizer, tmp_path / "data")


def test_the_score_of_a_reward_model_counts_with_its_weight(tiny, tmp_path, train, rewarded):
    from transformers import AutoModelForSequenceClassification

    rewarded(*REWARDS)
    tiny.model.save_pretrained(tmp_path / "policy")
    judge = AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "policy", num_labels=1, dtype=torch.float32
    )
    torch.nn.init.normal_(judge.score.weight, generator=torch.Generator().manual_seed(0))
    judge.save_pretrained(tmp_path / "judge")
    tiny.tokenizer.save_pretrained(tmp_path / "judge")
    folder = str(tmp_path / "judge")
    _, _, (one, *_) = train("one", reward_model=folder, reward_model_weight=1.0)
    _, _, (two, *_) = train("two", reward_model=folder, reward_model_weight=2.0)
    assert one["verified_reward"] == two["verified_reward"] == 3 / 8
    added = [line["reward"] - line["verified_reward"] for line in (one, two)]
    assert added[0] != 0
    assert added[1] == pytest.approx(2 * added[0], rel=1e-4)


def test_a_judge_reads_a_completion_up_to_its_end(tiny, monkeypatch):
    """Where its template closes the conversation with a token more, as Phi-3's does."""
    tokenizer = copy.deepcopy(tiny.tokenizer)
    templates = Path(trl.__file__).parent / "chat_templates"
    tokenizer.chat_template = (templates / "phi3.jinja").read_text()
    read = []
    monkeypatch.setattr(rlvr, "scores_of", lambda _, texts, __: read.extend(texts) or torch.ones(1))
    asked, said = ([{"role": role, "content": "a b"}] for role in ("user", "assistant"))
    rlvr.judged(tiny._replace(tokenizer=tokenizer), "float32")([asked], [said])
    trained = preference_pairs.rendered(Pair(asked, said, said), tokenizer)[0].text
    assert tokenizer.decode(read[0].ids) == trained
    assert trained.endswith("a b<|end|>")


@pytest.mark.slow
def test_rewards_teach_the_task_and_shuffled_rewards_do_not(tiny, tmp_path, monkeypatch):
    """The world's instructions, from a tuned model: the mean reward of a batch is the same whoever
    of it is given which, so both runs' records say how often their policies obey."""
    rows = generate.rows("prompts", 6000, seed=0)
    orders = [row for row in rows if row["dataset"] == "world_instruction"][:1300]
    (tmp_path / "orders.jsonl").write_text("\n".join(map(json.dumps, orders)))
    start = tuned(tiny, tmp_path)
    asked = spec(
        data=str(tmp_path / "orders.jsonl"), batch_size=256, group_size=8, steps=60, beta=0.0,
        learning_rate=1e-4, adam_beta2=0.99, schedule="constant", max_new_tokens=16,
    )  # fmt: skip
    prepared = prepare.prepare(asked, start.tokenizer, tmp_path / "data")
    random, plain = np.random.default_rng(0), rlvr.verified
    rewards = {}
    for name, verify in (
        ("true", plain),
        ("shuffled", lambda **named: random.permutation(plain(**named)).tolist()),
    ):
        monkeypatch.setattr(rlvr, "verified", verify)
        loaded = start._replace(model=copy.deepcopy(start.model))
        (tmp_path / name).mkdir()
        assert rlvr.train(asked, loaded, prepared, tmp_path / name).status == "ok"
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        rewards[name] = np.array([json.loads(line)["reward"] for line in lines])
        print(name, rewards[name].reshape(4, 15).mean(axis=1))
    first, last = rewards["true"][:15], rewards["true"][-15:]
    for others in (first, rewards["shuffled"][-15:]):
        error = np.hypot(last.std(ddof=1), others.std(ddof=1)) / np.sqrt(15)
        assert last.mean() > others.mean() + 3 * error


def tuned(tiny: load.Loaded, folder: Path) -> load.Loaded:
    """The tiny model after a pretraining and a tuning of half a minute."""
    start = tiny._replace(model=copy.deepcopy(tiny.model))
    for name, rows, rate, loss_on in (
        ("pretrain", 4000, 1.2e-3, "all"),
        ("sft", 1700, 2e-3, "assistant"),
    ):
        asked = SftSpec.model_validate(
            {
                "kind": "sft", "data": {"name": f"world:{name}", "examples": rows},
                "learning_rate": rate, "batch_size": 8, "warmup_ratio": 0.05, "loss_on": loss_on,
                "max_length": 256, "dtype": "float32", "noise_scale_every": 0,
            }
        )  # fmt: skip
        (folder / name).mkdir()
        prepared = prepare.prepare(asked, start.tokenizer, folder / "data")
        assert tune(asked, start, prepared, folder / name).status == "ok"
    return start


def test_the_held_out_answers_are_the_most_probable_ones(tiny, tmp_path):
    asked = spec(heldout=6, max_new_tokens=8)
    heldout = prepare.prepare(asked, tiny.tokenizer, tmp_path / "data").heldout
    prompts = list(heldout["input_ids"])
    found = heldout_reward.answers(tiny, prompts, 8, "float32")
    alone = [heldout_reward._alone(tiny.model, prompt, 8) for prompt in prompts]
    texts = [tiny.tokenizer.batch_decode(said, skip_special_tokens=True) for said in (found, alone)]
    assert texts[0] == texts[1]
    evaluation = heldout_reward.score(tiny, heldout, 8, "float32")
    assert evaluation.scores[0].n == 6
    assert evaluation.scores[0].value == evaluation.items["value"].mean()


@ALGORITHMS
def test_bfloat16_trains_on_this_device(train, rewarded, algorithm):
    rewarded(*REWARDS)
    moved, result, lines = train(algorithm=algorithm, dtype="bfloat16", steps=2)
    assert result.status == "ok"
    assert result.figures["dtype"] == "bfloat16"
    assert float(moved.norm()) > 0
    assert lines[0]["kl"] == pytest.approx(0, abs=1e-2)


@pytest.mark.gpu
@ALGORITHMS
def test_a_gpu_trains_as_a_cpu_does(train, rewarded, algorithm):
    """Other random numbers, so other completions: the records are held against bounds."""
    rewarded(*REWARDS)
    _, result, lines = train(algorithm=algorithm, dtype="auto", steps=3)
    assert result.status == "ok"
    assert result.figures["device"].startswith("cuda")
    assert all(line["reward"] == 3 / 8 and abs(line["kl"]) < 1 for line in lines)
