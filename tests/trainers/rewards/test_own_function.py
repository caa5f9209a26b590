"""A reward function of the user's own: called as TRL calls it, and refused with its name."""

import math

import pytest

from trainers.rewards import own_function
from trainers.specs.identity import identity
from trainers.specs.rlvr import RlvrSpec

ASK, SAID = [{"role": "user", "content": "?"}], [{"role": "assistant", "content": "four"}]
IDS = [[7], [7, 8]]


@pytest.fixture
def reward(tmp_path):
    def write(body, name="score"):
        path = tmp_path / "mine.py"
        path.write_text(body)
        return f"{path}:{name}"

    return write


def test_function_gets_completions_and_the_columns_of_their_rows(reward):
    mine = reward(
        "def score(prompts, completions, completion_ids, answer, **columns):\n"
        "    said = [len(c[0]['content']) for c in completions]\n"
        "    return [n + a * len(i) for n, a, i in zip(said, answer, completion_ids)]\n"
    )
    columns = [{"answer": 1, "completion_ids": "a"}, {"answer": 2, "completion_ids": "b"}]
    assert own_function.problem(mine) is None
    assert own_function.rewards(mine, [ASK] * 2, [SAID] * 2, IDS, columns) == [5.0, 8.0]


def test_function_gets_the_columns_that_it_takes(reward):
    mine = reward("def score(prompts, completions, truth): return [float(t) for t in truth]")
    columns = [{"truth": 1, "source": "a"}, {"truth": 2, "source": "b"}]
    assert own_function.rewards(mine, [ASK] * 2, [SAID] * 2, IDS, columns) == [1.0, 2.0]


def test_none_is_no_reward(reward):
    mine = reward("def score(**all): return [None, 1]")
    none, one = own_function.rewards(mine, [ASK] * 2, [SAID] * 2, IDS, [{}, {}])
    assert (math.isnan(none), one) == (True, 1.0)


@pytest.mark.parametrize(
    "body",
    [
        "async def score(completions, **columns): return [0.5, 1]",
        "def score(log_extra, log_metric, **columns):\n"
        "    log_extra(column='column', values=['a', 'b'])\n"
        "    log_metric(name='name', value=1.0)\n"
        "    log_extra('column', ['a', 'b'])\n    log_metric('name', 1.0)\n    return [0.5, 1]",
        "import numpy\ndef score(**all): return numpy.array([0.5, 1])",
        "import torch\ndef score(**all): return torch.tensor([0.5, 1])",
        "def score(completions, trainer_state=None): return (0.5, 1)",
    ],
    ids=["async", "logging", "array", "tensor", "trainer_state"],
)
def test_function_of_trl_is_called_as_it_is(body, reward):
    mine = reward(body)
    assert own_function.problem(mine) is None
    assert own_function.rewards(mine, [ASK] * 2, [SAID] * 2, IDS, [{}, {}]) == [0.5, 1.0]


@pytest.mark.parametrize("parameters", ["completions, trainer_state, **all", "*, trainer_state"])
def test_function_that_needs_a_trainer_is_refused_before_it_runs(parameters, reward):
    problem = own_function.problem(reward(f"def score({parameters}): return []"))
    assert "score needs trainer_state, which is not given here" in str(problem)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("def score(**all): return [1.0]", "a number or None for each"),
        ("def score(**all): return [float('nan'), 1]", "return finite numbers, or None"),
        ("def score(**all): return 1 / 0", "ZeroDivisionError"),
        ("import nothing_there\ndef score(**all): return []", "nothing_there"),
    ],
)
def test_function_that_fails_is_named(body, said, reward):
    mine = reward(body)
    with pytest.raises(ValueError, match=r"reward .*mine\.py:score") as failed:
        own_function.rewards(mine, [ASK] * 2, [SAID] * 2, IDS, [{}, {}])
    assert said in str(failed.value)


def test_problem_is_found_without_running_the_file(reward):
    assert "has no function 'other'; it has score" in str(
        own_function.problem(reward("raise SystemExit\ndef score(**all): ...", "other"))
    )
    assert "mine.py:1" in str(own_function.problem(reward("def score(")))
    assert "/nowhere.py" in str(own_function.problem("/nowhere.py:score"))
    assert "use one of gsm8k" in str(own_function.problem("gsm9k"))


def test_content_of_the_file_is_in_the_key_and_its_path_is_not(reward, tmp_path):
    def spec(name):
        settings = {"kind": "rlvr", "data": "rows.jsonl", "learning_rate": 1e-3, "batch_size": 8}
        return RlvrSpec.model_validate(settings | {"reward": name})

    mine = reward("def score(**all): return []")
    first = identity(spec(mine))
    other = tmp_path / "elsewhere.py"
    other.write_text("def score(**all): return []")
    assert identity(spec(f"{other}:score")) == first
    other.write_text("def score(**all): return [1.0]")
    assert identity(spec(f"{other}:score")) != first
