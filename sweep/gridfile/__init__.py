"""A grid file as a frozen `Grid`, or every problem at once with its line.

Reading order: `schema` (the keys), `load` (the way through), `stages`, `arms`, `axes`, `yaml`,
`checks`, `errors`, `json_schema`.
"""
