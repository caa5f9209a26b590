"""lm-eval's tasks as a preset loads them: the prompt of an item is the same in every subset."""

import json
import random
from typing import Any

import pytest

from trainers.specs.evaluation import EvaluateSpec
from trainers.tasks import benchmarks, tasks
from trainers.tasks.task_files import EvaluationUnavailable

TASK = """\
task: mine
dataset_path: json
dataset_kwargs:
  data_files: {test: FOLDER/test.jsonl, train: FOLDER/train.jsonl}
  cache_dir: FOLDER/cache
test_split: test
fewshot_split: SHOTS
num_fewshot: 2
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{answer}}"
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
"""


@pytest.fixture(params=["train", "test"])
def mine(request, tmp_path):
    """A task with two random shots an item, from another split and from its own."""
    (tmp_path / "mine.yaml").write_text(
        TASK.replace("FOLDER", str(tmp_path)).replace("SHOTS", request.param)
    )
    for split, rows in (("test", 12), ("train", 40)):
        lines = [json.dumps({"question": f"{split} {n}", "answer": str(n)}) for n in range(rows)]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    return tmp_path / "mine.yaml"


def prompts(path, limit: int | None, build=None) -> dict[str, str]:
    """Last question -> whole prompt, of every item scored."""
    spec = EvaluateSpec(benchmarks=[str(path)], limit=limit, preset="lm_eval")
    loaded = tasks.load(benchmarks.find(str(path)), spec)
    chosen: Any = tasks.subsets(loaded, limit)
    task = loaded["mine"]
    task.build_all_requests(samples=chosen and chosen["mine"])
    found = [request.args[0] for request in task.instances]
    return {prompt.split("\n\n")[-1]: prompt for prompt in found}


SHUFFLING = """\
import random
def shuffled(items):
    return items.map(lambda row: {"question": row["question"] + random.choice("abcdefgh")})
"""


def test_a_task_that_shuffles_as_it_reads_asks_every_trial_the_same(tmp_path):
    """Wherever and by whichever process it is read."""
    asked = []
    for number in range(2):
        folder = tmp_path / f"node-{number}"
        folder.mkdir()
        (folder / "own.py").write_text(SHUFFLING)
        lines = [json.dumps({"question": f"test {n}", "answer": str(n)}) for n in range(12)]
        for split in ("test", "train"):
            (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
        text = TASK.replace("FOLDER", str(folder)).replace("SHOTS", "train")
        (folder / "mine.yaml").write_text(text + "process_docs: !function own.shuffled\n")
        random.seed(number)
        state = random.getstate()
        asked.append([*prompts(folder / "mine.yaml", None)])
        assert random.getstate() == state
    assert asked[0] == asked[1]


def test_prompt_of_an_item_is_the_same_in_every_subset(mine):
    every = prompts(mine, None)
    assert len(every) == 12
    assert len({prompt.rpartition("\n\n")[0] for prompt in every.values()}) > 6, "shots are drawn"
    for limit in (3, 7):
        few = prompts(mine, limit)
        assert len(few) == limit
        assert few == {question: every[question] for question in few}


def test_item_is_not_among_its_own_shots(mine):
    for question, prompt in prompts(mine, 12).items():
        shots = prompt.split("\n\n")[:-1]
        assert len(shots) == 2
        assert not any(shot.startswith(f"{question} ") for shot in shots)


def test_preset_decides_shots_and_answer_length(shared_data):
    for name, preset, shots, longest in (
        ("gsm8k", "paper", 5, 256),
        ("gsm8k", "lm_eval", 5, None),
        ("mmlu_pro", "paper", 0, None),
    ):
        spec = EvaluateSpec(benchmarks=[name], preset=preset, data_dir=str(shared_data / "eval"))
        (task,) = tasks.load(benchmarks.find(name), spec).values()
        assert task.get_config("num_fewshot") == shots
        assert (task.get_config("generation_kwargs") or {}).get("max_gen_toks") == longest


def test_shots_without_their_split_are_refused_before_anything_runs(tmp_path):
    """Or lm-eval would take its shots, and with them the answers, from the items themselves."""
    (tmp_path / "mmlu_pro_test.jsonl").write_text("{}\n")
    benchmark = benchmarks.find("mmlu_pro")
    paper = EvaluateSpec(benchmarks=["mmlu_pro"], data_dir=str(tmp_path))
    stock = paper.model_copy(update={"preset": "lm_eval"})
    assert benchmarks.missing(benchmark, paper) is None
    assert "5 shots from the split 'validation'" in str(benchmarks.missing(benchmark, stock))
    with pytest.raises(EvaluationUnavailable, match="validation"):
        tasks.load(benchmark, stock)
