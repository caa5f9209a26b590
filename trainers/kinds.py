"""The kinds of training stages: `kind:` of a stage in a grid file -> its spec.

A new kind is a spec that derives from `TrainingSpec`, its place in both lists here, and an arm of
the `match` in trainers/stages.py.
"""

from trainers.spec import SftSpec, TrainingSpec

KINDS: dict[str, type[TrainingSpec]] = {"sft": SftSpec}

StageSpec = SftSpec
"""A stage's spec as a field of a record: with a second kind, the union of all, discriminated by
`kind`."""
