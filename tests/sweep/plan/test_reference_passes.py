"""Which reference passes the trials of a DPO stage need, and how many there are in all."""

from sweep.plan.evaluations import wanted
from sweep.plan.reference_passes import expected, needed

DPO = """\
name: pairs
model: tiny
stages:
  sft:
    kind: sft
    data: {name: world:sft, examples: 24}
    steps: 3
    grid: {learning_rate: [0.001, 0.002], batch_size: [4]}
  dpo:
    kind: dpo
    start_from: sft
    data: {name: world:preferences, examples: 24}
    steps: 2
    heldout: 8
    grid: {learning_rate: [0.0001, 0.001], batch_size: [2, 4], beta: [1.0, 5.0], %s}
evaluate: {benchmarks: [world_choice]}
"""
PLAIN = "seed: [0, 1]"


def passes(load, planned, axis: str, data: str = "content", **state):
    """The passes of all DPO trials, by start."""
    text = DPO % axis
    marks = {"world:preferences:train[:24]": data, "world:sft:train[:24]": data}
    wants = wanted(load(text), marks)["dpo"]
    by_start: dict = {}
    trials = [trial for trial in planned(text) if trial.stage == "dpo"]
    for trial in trials:
        for one in needed(trial, state.get("train", True), state.get("missing", wants), marks):
            by_start.setdefault(trial.parent, set()).add(one.key)
    return by_start, trials


def test_trials_of_one_start_share_one_pass_whatever_their_other_settings(load, planned):
    by_start, trials = passes(load, planned, PLAIN)
    assert len(trials) == 2 * 16
    assert len(by_start) == 2
    assert [len(keys) for keys in by_start.values()] == [1, 1]
    assert len(set.union(*by_start.values())) == 2, "each start has its own"


def test_a_plan_counts_the_passes_one_for_a_start_that_is_yet_to_be_chosen(planned):
    each = DPO % PLAIN
    best = each.replace("start_from: sft", "start_from: sft\n    parent: best")
    assert [expected(planned(text)) for text in (each, best)] == [2, 1]


def test_another_length_of_texts_is_another_pass_beside_that_of_the_held_out_slice(load, planned):
    by_start, _ = passes(load, planned, "max_length: [64, 128]")
    assert [len(keys) for keys in by_start.values()] == [2, 2]


def test_a_base_in_4_bits_has_a_pass_of_its_own(load, planned):
    plain, _ = passes(load, planned, PLAIN)
    adapted, _ = passes(load, planned, "adapter.rank: [4, 8]")
    assert plain == adapted
    both, _ = passes(load, planned, "adapter.base_weights: [float32, nf4]")
    assert all(plain[start] < both[start] and len(both[start]) == 2 for start in plain)


def test_changed_data_is_another_pass(load, planned):
    before, _ = passes(load, planned, PLAIN)
    after, _ = passes(load, planned, PLAIN, data="other")
    assert not set.union(*before.values()) & set.union(*after.values())


def test_a_trained_trial_with_its_held_out_score_needs_none(load, planned):
    by_start, _ = passes(load, planned, PLAIN, train=False, missing=())
    assert by_start == {}


def test_other_stages_need_none(planned):
    others = [trial for trial in planned(DPO % PLAIN) if trial.stage != "dpo"]
    assert others
    assert not any(needed(trial, True, (), {}) for trial in others)
