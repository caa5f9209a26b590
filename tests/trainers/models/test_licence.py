"""Where a model's licence is found."""

from pathlib import Path

from trainers.models.licence import licence


def test_a_known_model_has_its_licence() -> None:
    assert licence("HuggingFaceTB/SmolLM2-1.7B") == {"license": "apache-2.0"}


def test_a_folder_s_own_card_says(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("---\nlanguage: en\nlicense: mit\n---\n# Mine\n")
    assert licence(str(tmp_path)) == {"license": "mit"}


def test_nobody_knows_is_an_answer(tmp_path: Path) -> None:
    assert licence(str(tmp_path)) == {}
    (tmp_path / "README.md").write_text("# Mine, without a head\n")
    assert licence(str(tmp_path)) == {}
    (tmp_path / "README.md").write_text("---\nlicense: [mit\n---\n# Mine, with a broken one\n")
    assert licence(str(tmp_path)) == {}


def test_a_licence_that_is_no_known_one_has_its_name_and_link(tmp_path: Path) -> None:
    head = "license: other\nlicense_name: llama3.2\nlicense_link: LICENSE.txt\n"
    (tmp_path / "README.md").write_text(f"---\n{head}---\n# Mine\n")
    assert licence(str(tmp_path)) == {
        "license": "other", "license_name": "llama3.2", "license_link": "LICENSE.txt",
    }  # fmt: skip
