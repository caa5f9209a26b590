"""What a grid names, looked up once before the first trial.

Reading order: `resolve` (benchmarks, commits, fingerprints, evaluations: a frozen `ResolvedGrid`),
`pin` (names at their commits and as absolute paths).
"""
