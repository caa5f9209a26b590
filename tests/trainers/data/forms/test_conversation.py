"""Who says what, in every form that training data has."""

import json

import pytest

from trainers.data.forms.messages import messages
from trainers.data.forms.pairs import pair_of
from trainers.data.forms.turns import turns

ASKED = {"role": "user", "content": "How are you?"}
ANSWERED = {"role": "assistant", "content": "Well."}
REFUSED = {"role": "assistant", "content": "No."}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"messages": [ASKED, ANSWERED]}, [("user", "How are you?"), ("assistant", "Well.")]),
        ({"prompt": "a", "completion": "b"}, [("user", "a"), ("assistant", "b")]),
        ({"prompt": [ASKED], "completion": [ANSWERED]}, [("user", "How are you?"),
                                                         ("assistant", "Well.")]),
        ({"prompt": [ASKED], "chosen": [ANSWERED], "rejected": [REFUSED]},
         [("user", "How are you?"), ("assistant", "Well."), ("assistant", "No.")]),
        *(({asked: "a", said: "b", "id": "7"}, [("user", "a"), ("assistant", "b")])
          for asked, said in (("instruction", "response"), ("question", "answer"),
                              ("prompt", "response"), ("question", "response"),
                              ("query", "response"), ("problem", "solution"), ("input", "output"))),
        ({"instruction": "a", "input": "x", "response": "b"}, [("user", "a\n\nx"),
                                                               ("assistant", "b")]),
        ({"question": "a", "context": "x", "answer": "b"}, [("user", "a\n\nx"),
                                                            ("assistant", "b")]),
        ({"question": "a", "context": ["x", "y"], "answer": "b"}, [("user", "a\n\nx\n\ny"),
                                                                   ("assistant", "b")]),
        ({"query": "a", "chosen": "b", "rejected": "c"}, [("user", "a"), ("assistant", "b"),
                                                          ("assistant", "c")]),
        *(({asked: "a", "system": "s", **told}, [("system", "s"), ("user", "a")])
          for asked in ("prompt", "question")
          for told in ({}, {"ground_truth": "4"}, {"solution": "4"}, {"difficulty": 3})),
        ({"text": "Once."}, [("text", "Once.")]),
        ({"messages": [{"role": "user", "content": [{"text": "What?"}, {"type": "text",
          "text": "Where?"}]}]}, [("user", "What?\nWhere?")]),
    ],
)  # fmt: skip
def test_turns_of_each_form(row, expected):
    assert turns(row) == expected


DIALOGUE = "Human: How are you?\n\nAssistant: Well."
LIST = json.dumps([{"role": "user", "content": "Hi"}, {"role": "npc", "content": "Ho"}])


@pytest.mark.parametrize("said", [DIALOGUE, LIST, json.dumps([ASKED, ANSWERED])])
def test_an_answer_that_is_a_dialogue_or_messages_in_json_is_a_text(said):
    asked = ("user", "Write one.")
    row = {"prompt": "Write one.", "completion": said}
    assert turns(row) == [asked, ("assistant", said)]
    row = {"prompt": "Write one.", "chosen": said, "rejected": "No."}
    assert turns(row) == [asked, ("assistant", said), ("assistant", "No.")]


@pytest.mark.parametrize("said", [DIALOGUE, str([ASKED, ANSWERED]), str([ANSWERED])])
def test_an_answer_that_is_written_as_messages_or_repeats_its_question_is_messages(said):
    expected = [("user", "How are you?"), ("assistant", "Well.")]
    assert turns({"prompt": "How are you?", "completion": said}) == expected
    row = {"prompt": "How are you?", "chosen": said, "rejected": "No."}
    assert turns(row) == [*expected, ("assistant", "No.")]


LONG = f"\n\nHuman: Hi\n\nAssistant: Ho\n\n{DIALOGUE}"
HISTORY = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
SYSTEM = {"role": "system", "content": "Be kind."}


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ({"prompt": "How are you?"}, LONG),
        ({"prompt": ""}, LONG),
        ({"input": " "}, LONG),
        ({"prompt": "How are you?"}, json.dumps([SYSTEM, ASKED, ANSWERED])),
        ({"prompt": "How are you?"}, str([*HISTORY, ASKED, ANSWERED])),
        ({"question": "How are you?", "context": "A call."}, f"\n\n{DIALOGUE}"),
        ({"prompt": "Human: How are you?"}, f"\n\n{DIALOGUE}"),
    ],
)
def test_a_whole_conversation_as_text_is_read_beside_its_last_question(question, said):
    pair = pair_of({**question, "chosen": said, "rejected": said.replace("Well.", "No.")})
    assert (pair.prompt[-1], pair.chosen, pair.rejected) == (ASKED, [ANSWERED], [REFUSED])
    asked, answered = ("input", "output") if "input" in question else ("prompt", "completion")
    if "context" not in question and "Human" not in str(question):
        told = turns({asked: question[asked], answered: said})
        assert told == [(turn["role"], turn["content"]) for turn in (*pair.prompt, ANSWERED)]


def test_a_question_that_both_answers_repeat_is_one_turn():
    row = {"prompt": "How are you?", "chosen": [ASKED, ANSWERED], "rejected": [ASKED, REFUSED]}
    assert [turn.text for turn in turns(row)] == ["How are you?", "Well.", "No."]


@pytest.mark.parametrize(("weight", "expected"), [("0", 0), (1.0, 1), (None, None)])
def test_weight_of_a_call_is_a_number(weight, expected):
    call = {"name": "add", "arguments": {}}
    entry = {"from": "function_call", "value": json.dumps(call), "weight": weight}
    assert messages([entry], "messages")[0].get("weight") == expected
    with pytest.raises(ValueError, match=r"`messages\[0\]` has the weight 0\.5; use 0 or 1"):
        messages([entry | {"weight": 0.5}], "messages")


def test_context_that_is_no_text_is_refused():
    row = {"question": "a", "context": {"contexts": ["x"]}, "answer": "b"}
    with pytest.raises(ValueError, match=r"`context` is .*contexts.*; give a text or a list"):
        turns(row)


def test_an_unknown_form_names_its_keys_and_what_is_known():
    with pytest.raises(ValueError, match="a row with the columns riddle; it needs `messages`"):
        turns({"riddle": "x"})
