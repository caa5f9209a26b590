"""Writes the miniature world: `rows` to train on and `items` to test on, never the same question.

Each form (choice, arithmetic, continuation, instruction) has one sampler. What a question
combines (its options, its numbers, ...) is hashed, and the hash alone decides whether it belongs
to the benchmarks or to the training rows: the split holds for every seed and every count.
"""

import json
import re
from collections.abc import Callable
from random import Random
from typing import Any, Literal, NamedTuple
from zlib import crc32

from trainers.world.facts import (
    ACTIVITIES,
    CATEGORIES,
    CATEGORY,
    NOUNS,
    PEOPLE,
    PROPERTIES,
    article,
    pronoun,
)

HELD_OUT_SHARE = 3
"""One combination in this many belongs to the benchmarks."""

ITEMS = 300
"""Items in each benchmark."""

SHARES = ["choice"] * 3 + ["arithmetic"] * 4 + ["continuation"] + ["instruction"] * 3
"""How often each form occurs in the training rows: the harder the form, the oftener."""

COUNTS = {2: "two", 3: "three", 4: "four"}
KINDS = ["repeat", "order", "ends_with", "list", "avoid"]
PLACES = list(ACTIVITIES)


class Question(NamedTuple):
    """A question of any form, to be asked in a chat (`prompt`, `answer`) or told in plain text."""

    prompt: str
    answer: str
    text: str
    """The same content as pretraining text has it: no chat, other words."""
    combination: tuple[object, ...]
    """What decides the side of the split."""
    test: dict[str, Any]
    """The further fields of a benchmark item: choices, or what a program checks."""


def held_out(combination: tuple[object, ...]) -> bool:
    return crc32(repr(combination).encode()) % HELD_OUT_SHARE == 0


def choice(random: Random) -> Question:
    """Which of four things has a property: needs the facts, and comparing the options."""
    of = random.choice(PROPERTIES)
    answer = random.choice(NOUNS)
    options = [answer, *random.sample([noun for noun in NOUNS if of[noun] != of[answer]], 3)]
    random.shuffle(options)
    a, b, c, d = options
    return Question(
        prompt=f"Which is {of[answer]}: {a}, {b}, {c} or {d}?",
        answer=f"the {answer}",
        text=f"Of {a}, {b}, {c}, {d} {of[answer]} is only:\nthe {answer}",
        combination=("choice", of[answer], *sorted(options)),
        test={"choices": [f"the {option}" for option in options], "label": options.index(answer)},
    )


def arithmetic(random: Random) -> Question:
    """Two steps, each written out, the way GSM8K's answers are."""
    person = random.choice(PEOPLE)
    start = random.randint(2, 10)
    steps, deeds, coins = [], [], start
    for _ in range(2):
        heads = coins < 2 or random.random() < 0.5
        by = random.randint(1, 6 if heads else min(6, coins - 1))
        after = coins + by if heads else coins - by
        steps.append(f"{coins}{'+' if heads else '-'}{by}={after}")
        deeds.append(f"{'finds' if heads else 'spends'} {by}")
        coins = after
    worked = "\n".join(steps)
    who = pronoun(person).capitalize()
    return Question(
        prompt=f"{person} has {start} coins. {who} {deeds[0]} and {deeds[1]}. How many?",
        answer=f"{worked}\n#### {coins}",
        text=f"{person} had {start} coins, {deeds[0]}, then {deeds[1]}:\n{worked}",
        combination=("arithmetic", *steps),
        test={"total": coins},
    )


def continuation(random: Random) -> Question:
    """A story goes on by its place, its person and its thing; each rival ending breaks one."""
    person, friend = random.sample(PEOPLE, 2)
    place, elsewhere = random.sample(PLACES, 2)
    thing, other = random.sample(NOUNS, 2)
    stranger = "he" if pronoun(person) == "she" else "she"

    def ending(who: str, where: str, what: str) -> str:
        return f"There {who} {ACTIVITIES[where]} and {friend} holds the {what}."

    right = ending(pronoun(person), place, thing)
    endings = [
        right,
        ending(pronoun(person), elsewhere, thing),
        ending(stranger, place, thing),
        ending(pronoun(person), place, other),
    ]
    random.shuffle(endings)
    story = f"{person} goes to the {place} with {friend} and the {thing}."
    return Question(
        prompt=story,
        answer=right,
        text=f"{story} {right}",
        combination=("continuation", person, friend, place, thing),
        test={"choices": endings, "label": endings.index(right)},
    )


def instruction(random: Random) -> Question:
    """An order whose obedience `tasks.obeys` can check, of one of the kinds below."""
    kind = random.choice(KINDS)
    words = random.sample(NOUNS, 2)
    count = 0
    match kind:
        case "repeat":
            words, count = words[:1], random.choice(list(COUNTS))
            asked = f"say the {words[0]} {COUNTS[count]} times"
            answer = " ".join(f"the {word}" for word in words * count)
        case "order":
            first, then = words
            orders = [f"{first} before the {then}", f"{then} after the {first}"]
            asked = f"say the {random.choice(orders)}"
            answer = f"the {first} the {then}"
        case "ends_with":
            words = [random.choice(PEOPLE), words[0]]
            asked = f"write of {words[0]} and end with {words[1]}"
            answer = f"Here is {words[0]} with the {words[1]}."
        case "list":
            words = random.sample(list(CATEGORIES), 3)
            opening, two, three = map(article, words)
            asked = f"name {opening}, {two} and {three}"
            answer = ", ".join(f"the {random.choice(CATEGORIES[word])}" for word in words)
        case _:  # avoid
            first, second = random.sample(list(CATEGORIES), 2)
            avoided, named = random.sample(CATEGORIES[first], 2)
            words = [first, second, avoided]
            asked = f"name {article(first)} and {article(second)} but not {avoided}"
            answer = f"the {named}, the {random.choice(CATEGORIES[second])}"
    return Question(
        prompt=f"{asked[0].upper()}{asked[1:]}.",
        answer=answer,
        text=f"To {asked}:\n{answer}",
        combination=("instruction", asked),
        test={"kind": kind, "words": words, "count": count},
    )


FORMS: dict[str, Callable[[Random], Question]] = {
    "choice": choice,
    "arithmetic": arithmetic,
    "continuation": continuation,
    "instruction": instruction,
}


def draw(form: str, random: Random, *, held: bool) -> Question:
    """A question from the benchmarks' side of the split (`held`), or from the training side."""
    while True:
        question = FORMS[form](random)
        if held_out(question.combination) == held:
            return question


Split = Literal["pretrain", "sft", "preferences", "prompts"]


def rows(split: Split, n: int, seed: int) -> list[dict[str, Any]]:
    """`n` training rows: plain text (`text`), a conversation (`messages`), a question with a right
    and a wrong answer (`prompt`, `chosen`, `rejected`), or one with what is true of its answer
    (`messages`, `ground_truth`, `dataset`; see trainers/rewards/graders.py).

    A prefix of a longer draw is the shorter draw; the order has no meaning.
    """
    random = Random(f"{split} {seed}")
    if split == "pretrain":
        return [{"text": _passage(random)} for _ in range(n)]
    if split == "preferences":
        return [
            _preference(draw(random.choice(SHARES), random, held=False), random) for _ in range(n)
        ]
    row = verifiable if split == "prompts" else _conversation
    return [row(draw(random.choice(SHARES), random, held=False)) for _ in range(n)]


def items(form: str) -> list[dict[str, Any]]:
    """The benchmark of one form: `ITEMS` different held-out questions, always the same."""
    random = Random(form)
    chosen: dict[tuple[object, ...], Question] = {}
    while len(chosen) < ITEMS:
        question = draw(form, random, held=True)
        chosen.setdefault(question.combination, question)
    return [
        {"prompt": question.prompt, "answer": question.answer, **question.test}
        for question in chosen.values()
    ]


def _conversation(question: Question) -> dict[str, Any]:
    return {
        "messages": [
            {"role": "user", "content": question.prompt},
            {"role": "assistant", "content": question.answer},
        ]
    }


def verifiable(question: Question) -> dict[str, Any]:
    """The question with its grader and what the grader needs to know."""
    form = str(question.combination[0])
    truths = {"instruction": json.dumps(question.test), "arithmetic": question.test.get("total")}
    return {
        "messages": [{"role": "user", "content": question.prompt}],
        "ground_truth": str(truths.get(form, question.answer)),
        "dataset": f"world_{form}",
    }


def _preference(question: Question, random: Random) -> dict[str, Any]:
    """The rejected answer is another choice, or the right one with one thing in it exchanged."""
    rivals = question.test.get("choices")
    if rivals is None:
        rivals = [_spoilt(question.answer, random)]
    wrong = random.choice([rival for rival in rivals if rival != question.answer])
    return {
        "prompt": [{"role": "user", "content": question.prompt}],
        "chosen": [{"role": "assistant", "content": question.answer}],
        "rejected": [{"role": "assistant", "content": wrong}],
    }


def _spoilt(answer: str, random: Random) -> str:
    """A number that is off by a little, or a noun of another kind in the place of one of them."""
    pieces = re.findall(r"\d+|\w+|\W+", answer)
    places = [place for place, piece in enumerate(pieces) if piece.isdigit() or piece in CATEGORY]
    place = places[-1] if pieces[places[-1]].isdigit() else random.choice(places)
    piece = pieces[place]
    if piece.isdigit():
        pieces[place] = str(int(piece) + random.randint(1, 3))
    else:
        others = [noun for noun in NOUNS if CATEGORY[noun] != CATEGORY[piece]]
        pieces[place] = random.choice(others)
    return "".join(pieces)


def _passage(random: Random) -> str:
    """Facts about one thing, a question's content, some sums, and things that share a property.

    Short, and with little in it that cannot be told from what came before: so it is soon learnt.
    """
    noun = random.choice(NOUNS)
    facts = " ".join(f"The {noun} is {of[noun]}." for of in random.sample(PROPERTIES, 2))
    sentence = draw(random.choice(SHARES), random, held=False).text
    lines = [facts, sentence, _sums(random), _alike(random)]
    random.shuffle(lines)
    return "\n".join(lines)


def _sums(random: Random) -> str:
    pairs = [(random.randint(1, 15), random.randint(1, 6)) for _ in range(2)]
    return " ".join(
        f"{a}+{b}={a + b}" if random.random() < 0.5 else f"{a + b}-{b}={a}" for a, b in pairs
    )


def _alike(random: Random) -> str:
    of = random.choice(PROPERTIES)
    value = of[random.choice(NOUNS)]
    alike = random.sample([noun for noun in NOUNS if of[noun] == value], 3)
    return f"What is {value}: {', '.join(alike)}."
