"""A grid as a list of trials: no torch, no Ray, no network.

Reading order: `trials` (keys and parents), `order` (coarse cells first), `widen` (cells that
`decide` may add), `evaluations`, `reference_passes`, `bundles` (trials that share a pass) with
`lane_gain`, `memory`, `disk`, `step_time`, `prepared` (what is known once data is there); `dropout`
(of the model), `sight` (what a grid can see), `starting_points` (published settings). Its hours and
money are `sweep.price`.
"""
