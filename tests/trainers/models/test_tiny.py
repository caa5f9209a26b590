"""The tiny model and its tokenizer: always alike, reading anything, stopping at the end."""

import hashlib

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from trainers.models.tiny import tiny
from trainers.world import generate

CHAT = [{"role": "user", "content": "Say pear."}, {"role": "assistant", "content": "pear"}]


@pytest.fixture(scope="module")
def made():
    return tiny()


def digest(model):
    state = model.state_dict()
    return hashlib.sha256(b"".join(state[k].numpy().tobytes() for k in sorted(state))).hexdigest()


def test_it_is_the_same_every_time_whatever_the_global_seed(made):
    torch.manual_seed(123)
    model, tokenizer = tiny()
    assert digest(model) == digest(made[0])
    assert tokenizer.backend_tokenizer.to_str() == made[1].backend_tokenizer.to_str()


def test_making_it_leaves_the_global_random_state():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    tiny()
    assert torch.equal(torch.rand(3), expected)


def test_it_has_about_a_million_parameters(made):
    assert 0.8e6 < made[0].num_parameters() < 1.2e6
    assert made[0].get_input_embeddings().weight is made[0].get_output_embeddings().weight


@pytest.mark.parametrize(
    "text",
    ["Mara has 12 coins.", "héllo  wörld\t☃\n", "def f(x): return x**2", " \n\n", "日本語 🙂"],
)
def test_any_text_comes_back_as_it_was(made, text):
    tokenizer = made[1]
    assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_the_words_of_the_world_are_single_tokens(made):
    tokenizer = made[1]
    texts = [row["text"] for row in generate.rows("pretrain", 500, 11)]
    texts += [m["content"] for row in generate.rows("sft", 500, 11) for m in row["messages"]]
    texts += [item["prompt"] for form in generate.FORMS for item in generate.items(form)]
    for text in texts:
        tokens = tokenizer.tokenize(text)
        assert not [t for t in tokens if len(t) == 1 and t.isalpha() and t.isascii()], text


def test_digits_are_split_one_by_one(made):
    assert made[1].tokenize("12+7") == ["1", "2", "+", "7"]


def test_nothing_is_added_before_the_text(made):
    tokenizer = made[1]
    assert tokenizer.bos_token is None
    assert len(tokenizer("Mara").input_ids) == 1
    assert tokenizer.pad_token_id != tokenizer.eos_token_id


def test_the_chat_is_chatml_without_a_system_prompt(made):
    text = made[1].apply_chat_template(CHAT, tokenize=False)
    assert text == "<|im_start|>user\nSay pear.<|im_end|>\n<|im_start|>assistant\npear<|im_end|>\n"
    prompt = made[1].apply_chat_template(CHAT[:1], tokenize=False, add_generation_prompt=True)
    assert text.startswith(prompt)
    assert prompt.endswith("<|im_start|>assistant\n")


def test_generation_stops_at_the_end_of_a_turn(made):
    model, tokenizer = made
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert tokenizer.convert_ids_to_tokens(tokenizer.eos_token_id) == "<|im_end|>"
    assert model.generation_config.pad_token_id == tokenizer.pad_token_id


def test_it_comes_back_from_disk_as_it_was(made, tmp_path):
    model, tokenizer = made
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert digest(AutoModelForCausalLM.from_pretrained(tmp_path)) == digest(model)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again("Mara ☃ 12<|im_end|>").input_ids == tokenizer("Mara ☃ 12<|im_end|>").input_ids
    assert again.chat_template == tokenizer.chat_template
    assert again.model_max_length == tokenizer.model_max_length
