"""What a base model without a chat template is given; generation stops where a turn ends."""

import copy

import pytest
from tokenizers import Tokenizer
from tokenizers import models as tokenizer_models
from transformers import PreTrainedTokenizerFast

from tests.trainers.tokenised import tokenise
from trainers.data import prepare
from trainers.data.forms import tokenize
from trainers.evaluate.open_model import open_model
from trainers.models import chat_template, load
from trainers.specs.evaluation import EvaluateSpec
from trainers.specs.training import SftSpec
from trainers.stages import sft

QUESTION = {"role": "user", "content": "What is red?"}
ANSWER = {"role": "assistant", "content": "the apple"}

OWN_END = "<|pad|>"
"""The end token of the base model here, as `<|endoftext|>` is SmolLM2-135M's."""


@pytest.fixture
def base(fresh, tmp_path) -> load.Loaded:
    """A base model as it comes: no chat template, and an end token that ends no turn."""
    model, tokenizer = fresh.model, copy.deepcopy(fresh.tokenizer)
    tokenizer.chat_template = None
    tokenizer.eos_token = OWN_END
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    return load.load(str(tmp_path / "base"))


def test_base_model_gets_chatml_with_smollm2s_system_prompt(base):
    text = base.tokenizer.apply_chat_template(
        [QUESTION], tokenize=False, add_generation_prompt=True
    )
    assert text == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
        "<|im_end|>\n<|im_start|>user\nWhat is red?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_system_prompt_of_a_conversation_stays_alone(base):
    turns = [{"role": "system", "content": "Be brief."}, QUESTION]
    text = base.tokenizer.apply_chat_template(turns, tokenize=False)
    assert text.startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user")


def test_end_of_a_turn_becomes_the_end_token(base):
    assert base.tokenizer.eos_token == "<|im_end|>"
    ids = base.tokenizer.convert_tokens_to_ids([OWN_END, "<|im_end|>"])
    assert base.model.generation_config.eos_token_id == ids


def test_labels_of_a_base_model_hold_the_end_token(base):
    example = tokenise({"messages": [QUESTION, ANSWER]}, base.tokenizer, "assistant")
    kept = [token for token in example["labels"] if token != tokenize.IGNORED]
    assert base.tokenizer.decode(kept) == "the apple<|im_end|>"


def test_chat_template_of_its_own_is_kept(tiny):
    assert "SmolLM" not in tiny.tokenizer.chat_template


def test_generation_stops_at_the_end_of_a_turn_that_is_not_the_end_token(fresh):
    """Some base models come with a chat template whose turns end otherwise than their texts."""
    tokenizer = copy.deepcopy(fresh.tokenizer)
    tokenizer.eos_token = OWN_END
    chat_template.complete(fresh.model, tokenizer)
    assert tokenizer.eos_token == OWN_END
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") in (
        fresh.model.generation_config.eos_token_id
    )


@pytest.fixture
def plain() -> PreTrainedTokenizerFast:
    """A tokenizer that knows nothing of ChatML."""
    vocabulary = {"<end>": 0, "a": 1, "?": 2}
    words = Tokenizer(tokenizer_models.WordLevel(vocabulary, unk_token="?"))
    return PreTrainedTokenizerFast(tokenizer_object=words)


def test_own_end_token_ends_the_turns_where_the_vocabulary_lacks_chatmls(fresh, plain):
    plain.eos_token = "<end>"
    chat_template.complete(fresh.model, plain)
    text = plain.apply_chat_template([QUESTION, ANSWER], tokenize=False)
    assert text.endswith("the apple<end>\n")
    assert plain.eos_token == plain.pad_token == "<end>"


def test_tokenizer_without_any_end_token_is_refused(fresh, plain):
    with pytest.raises(ValueError, match="neither a chat template nor an end token"):
        chat_template.complete(fresh.model, plain)


def test_longest_input_is_the_models_where_the_tokenizer_declares_none(fresh, plain):
    plain.eos_token = "<end>"
    assert plain.model_max_length > 1e20
    chat_template.complete(fresh.model, plain)
    assert plain.model_max_length == fresh.model.config.max_position_embeddings


def test_trained_base_model_stops_by_itself_in_lm_eval(base, tmp_path):
    """As in stock IFEval: no stop strings, and far more tokens allowed than an answer takes."""
    from lm_eval.api.instance import Instance

    file = tmp_path / "one.jsonl"
    file.write_text('{"prompt": "What is red?", "completion": "the apple"}\n' * 4)
    settings = {"learning_rate": 1e-2, "batch_size": 4, "steps": 15, "heldout": 0}
    spec = SftSpec.model_validate({"kind": "sft", "data": {"name": str(file)}} | settings)
    prepared = prepare.prepare(spec, base.tokenizer, tmp_path / "data")
    (tmp_path / "trial").mkdir()
    sft.train(spec, base, prepared, tmp_path / "trial")
    for part in (base.model, base.tokenizer):
        part.save_pretrained(tmp_path / "model")

    saved = load.load(str(tmp_path / "model"))
    lm = open_model(saved, EvaluateSpec(benchmarks=["ifeval"], batch_size=1))
    prompt = lm.apply_chat_template([QUESTION])
    options = {"until": [], "do_sample": False, "temperature": 0.0, "max_gen_toks": 100}
    asked = Instance("generate_until", {}, (prompt, options), 0)
    assert lm.generate_until([asked]) == ["the apple"]
    assert 1 + lm.tally.steps == len(base.tokenizer("the apple<|im_end|>")["input_ids"])
