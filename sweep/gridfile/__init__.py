"""A grid file as a frozen `Grid`, or every problem at once with its line.

Reading order: `keys` (what may stand in it), `load` (the way through), `stages`, `arms`, `yaml`,
`paths`, `checks` with `cells` and `choosing`, `screening` (short runs of `decide`), `errors`,
`foreign` with `foreign_words`.
"""
