"""Trials that differ in what they start from are told apart while they run, as in the report."""

import csv
import io
from pathlib import Path

from analysis.tables.settings import with_settings
from sweep.plan import trials
from sweep.storage.run_folder import plan_csv
from sweep.storage.status.starts import named_by_start

GRID = """
name: starts
model: tiny
stages:
  sft:
    kind: sft
    data: {name: "world:sft", examples: 300}
    steps: 75
    max_length: 128
    grid: {learning_rate: [0.0003, 0.001], batch_size: [4], weight_decay: [0.0, 0.1], seed: [0, 1]}
  dpo:
    kind: dpo
    start_from: sft
    parent: each
    data: {name: "world:preferences", examples: 100}
    steps: 5
    grid: {learning_rate: [1.0e-5], batch_size: [4, 8]}
evaluate: {benchmarks: [world_choice], limit: 16}
"""


def test_arms_have_the_names_of_the_report(load):
    planned = trials.trials(load(GRID))
    rows = named_by_start(list(csv.DictReader(io.StringIO(plan_csv(planned)))))
    arms = {row["key"]: row["arm"] for row in rows if row["stage"] == "dpo"}
    assert set(arms.values()) == {
        f"parent=sft weight_decay={decay} {rate} x 4"
        for decay in (0.0, 0.1)
        for rate in ("3e-4", "1e-3")
    }
    records = [(Path(), trial.model_dump() | {"model": trial.model.name}) for trial in planned]
    of_report = {record["key"]: record["arm"] for _, record in with_settings(records)}
    assert arms.items() <= of_report.items()


def test_stage_with_one_start_keeps_its_arms(planned, chain):
    rows = list(csv.DictReader(io.StringIO(plan_csv(planned(chain)))))
    assert named_by_start(rows) == rows
