"""What the status and the page of a run say beside its trials."""

from sweep.storage.status.notes import Notes
from sweep.storage.trial_folder import TrialFolder
from trainers import files

WANTED = [{"benchmark": "arc", "fingerprint": "f"}]


def scored(notes: Notes, folder, name: str, **settings: str) -> None:
    trial = TrialFolder(folder / name)
    files.write_json(trial.scores("f"), {"settings": settings, "scores": []})
    notes.ended(trial, WANTED)


def test_scores_of_two_classes_are_told_with_their_numbers(tmp_path):
    notes = Notes(tmp_path)
    for name in ("a", "b"):
        scored(notes, tmp_path, name, model_class="SharedPrefixLM")
    scored(notes, tmp_path, "old")
    assert notes.lines(held=True) == []
    scored(notes, tmp_path, "c", model_class="HFLM")
    (line,) = notes.lines(held=False)
    assert line.startswith(
        "arc: models were scored by different classes, 1 by HFLM and 2 by Shared"
    )


def test_a_trial_without_a_score_is_no_note(tmp_path):
    notes = Notes(tmp_path)
    notes.ended(TrialFolder(tmp_path / "a"), WANTED)
    assert notes.lines(held=True) == []
