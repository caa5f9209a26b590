"""The kinds of stage, a file each: what an example is, and its loss.

Reading order: `sft`; `pair_batches`, `dpo` with `reference_pass`, `reward_model`; `sampling`,
`rollout_exchange`, `rollouts`, `rlvr`.
"""
