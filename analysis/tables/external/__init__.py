"""Tables from elsewhere -> the one schema, with notes on how each column was read.

Nothing is guessed: what a name does not say is asked for, and what cannot be read is refused with
file, row, column and the way out. Reading order: `adopt` (the whole path), `names` (what columns
and benchmarks are called), `batch_size`, `spellings`, `runs` (a row per run), `scores`,
`conditions` (seeds or settings), `values` (cells to numbers and statuses); before all of these
`tool_outputs` and `tool_files`, where a folder of runs stands in place of a table, and `shape` and
`run_names`, where its rows are not runs or settings stand in their names.
"""
