"""A grid file as a frozen `Grid`, or every problem at once with its line.

Reading order: `keys` (what may stand in it), `load` (the way through), `stages`, `arms`, `yaml`,
`paths`, `checks`, `choosing`, `errors`, `foreign` with `foreign_words`.
"""
