"""Continuous companions of a benchmark's accuracy, which barely moves in small models.

Multiple choice, from the log-likelihoods that accuracy is made of. With s_i = ln p(choice i) /
characters of choice i, the number that acc_norm ranks by:

- `choice_probability`: sum over the right choices of exp(s_i), over the sum of all. The length-
  normalised probability of the right choice of DataDecide (Magnusson et al. 2025, arXiv
  2504.11393), between 0 and 1, 1/k for k choices that are equally likely.
- `choice_margin`: s of the best right choice less s of the best wrong one, in nats per character;
  above 0 where acc_norm counts the item as right.

Generation, from one more log-likelihood of the gold text after the same prompt, in bits per UTF-8
byte, -log2 p(text) / bytes, lower is better:

- `solution_bits_per_byte`: the whole gold solution of GSM8K's form, steps and "#### number";
- `answer_bits_per_byte`: its number alone, after the gold steps;
- `target_bits_per_byte`: the short answer that exact match asks for (BBH).

White space that ends a prompt (the line break after a chat template's "assistant") counts with what
follows it, in lm-eval's log-likelihoods and so in all of these.
"""

import math
from typing import Any, NamedTuple

import numpy as np

LOWER_IS_BETTER = frozenset(
    {"solution_bits_per_byte", "answer_bits_per_byte", "target_bits_per_byte"}
)


def of_choices(task: Any, samples: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Metric -> value per item of a multiple-choice task; empty where an item has no right choice,
    as the test split of a contest, or none that is wrong. Empty too where a function of the task's
    own judges the answers, beside which its target may be a placeholder (TruthfulQA's MC2).

    `samples` are lm-eval's, one per item.
    """
    if task.get_config("process_results") is not None:
        return {}
    pairs = []
    for sample in samples:
        choices = task.doc_to_choice(sample["doc"])
        right = _right(task, sample["doc"], choices)
        if not 0 < len(right) < len(choices):
            return {}
        logprobs = [response[0][0] for response in sample["resps"][: len(choices)]]
        texts = [sample["arguments"][0][1]] * len(choices) if task.multiple_input else choices
        pairs.append(choice_scores(np.array(logprobs), [len(text) for text in texts], right))
    probability, margin = np.array(pairs).T
    return {"choice_probability": probability, "choice_margin": margin}


def choice_scores(
    log_likelihoods: np.ndarray, characters: list[int], right: set[int]
) -> tuple[float, float]:
    """Probability of the right choice and its margin, of one item."""
    scores = log_likelihoods / np.array(characters, dtype=float)
    weights = np.exp(scores - scores.max())
    is_right = np.isin(np.arange(len(scores)), list(right))
    margin = scores[is_right].max() - scores[~is_right].max()
    return float(weights[is_right].sum() / weights.sum()), float(margin)


def _right(task: Any, doc: Any, choices: list[str]) -> set[int]:
    """Places of the right choices, by lm-eval's own reading of a task's target."""
    gold = task.doc_to_text(doc) if task.multiple_input else task.doc_to_target(doc)
    right = set()
    for answer in gold if isinstance(gold, list) else [gold]:
        if isinstance(answer, str):
            right |= {choices.index(answer)} if answer in choices else set()
        else:
            right |= {answer} if 0 <= answer < len(choices) else set()
    return right


class Gold(NamedTuple):
    """A text whose log-likelihood is asked for, and what stands between it and the prompt."""

    metric: str
    before: str
    text: str

    def request(self, prompt: str) -> tuple[str, str]:
        """Context and continuation."""
        return prompt + self.before, self.text


def of_gold(
    lm: Any, kind: str, task: Any, samples: list[dict[str, Any]], chat_template: bool
) -> dict[str, np.ndarray]:
    """Metric -> bits per byte per item, by further requests to `lm`."""
    from lm_eval.api.instance import Instance

    asked: dict[str, list[tuple[Gold, Any]]] = {}
    for number, sample in enumerate(samples):
        prompt = sample["arguments"][0][0]
        for gold in gold_texts(kind, task, sample["doc"], chat_template):
            instance = Instance("loglikelihood", sample["doc"], gold.request(prompt), number)
            asked.setdefault(gold.metric, []).append((gold, instance))
    # One call each: the stock class takes two requests that are one text, cut at two places, for
    # choices of one token after a shared context, and gives the second the logits of the first.
    return {metric: _bits_per_byte(lm, pairs) for metric, pairs in asked.items()}


def _bits_per_byte(lm: Any, asked: list[tuple[Gold, Any]]) -> np.ndarray:
    answers = lm.loglikelihood([instance for _, instance in asked])
    bits = [
        -log_likelihood / math.log(2) / len(gold.text.encode())
        for (gold, _), (log_likelihood, _) in zip(asked, answers, strict=True)
    ]
    return np.array(bits)


def gold_texts(kind: str, task: Any, doc: Any, chat_template: bool) -> list[Gold]:
    """The texts of one item; each begins as an answer would, with a space after a plain prompt."""
    # As lm-eval does between a prompt and a choice: a template ends the prompt itself.
    space = "" if chat_template else task.get_config("target_delimiter")
    if kind == "solution":
        solution = doc["answer"]
        steps, _, answer = solution.rpartition("#### ")
        return [
            Gold("solution_bits_per_byte", "", space + solution),
            Gold("answer_bits_per_byte", f"{space}{steps}####", f" {answer}"),
        ]
    return [Gold("target_bits_per_byte", "", f"{space}{task.doc_to_target(doc)}")]
