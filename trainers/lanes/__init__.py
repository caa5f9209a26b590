"""Several trainings of one model in one pass, each a lane: every weight has a leading axis of lanes
and each matrix product is a batched one.

    dispatch.train_lanes(specs, loaded, cache, start, folders, deadline, memory_kills, save)

trains them in lock step and leaves in each lane's folder what a training alone leaves there:
metrics.jsonl and checkpoints, of the same format, so that either can go on from the other's.
`save(i, loaded, result)` is called once for each lane that ends, `ok` or `diverged`, at once; the
model is a plain transformers model, and the weights below its adapter are those of all lanes, to be
read alone. Entry i of the results is what `save` was given, or the exception (Superseded, OSError)
that ended lane i alone. `specs.lanes.lane_key` says which trainings may share a pass. Where they
cannot, `NotLaned` is raised before the first step, or `TooMany` with the number of lanes that the
memory holds. `Stopped` is raised when all lanes have their checkpoints.

Reading order: `stack` (where the weights lie), `modules` and `head` (what computes with them),
`row_optimizer`, `lane` (one training of the pass), `steps` (the pass), `proof`, `room`, `run` (all
of it); then the kinds of stage: `sft`, `pairs`.
"""
