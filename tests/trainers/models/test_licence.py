"""Where a model's licence is found."""

from pathlib import Path

from trainers.models.licence import licence


def test_a_known_model_has_its_licence() -> None:
    assert licence("HuggingFaceTB/SmolLM2-1.7B") == "apache-2.0"


def test_a_folder_s_own_card_says(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("---\nlanguage: en\nlicense: mit\n---\n# Mine\n")
    assert licence(str(tmp_path)) == "mit"


def test_nobody_knows_is_an_answer(tmp_path: Path) -> None:
    assert licence(str(tmp_path)) is None
    (tmp_path / "README.md").write_text("# Mine, without a head\n")
    assert licence(str(tmp_path)) is None
