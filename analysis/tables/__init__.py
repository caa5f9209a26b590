"""Any table of results as one long table: a run folder, a table from elsewhere, a published one.

Reading order: `schema`, `settings`, `recipe`; `records` (a run folder, whose two tables are
written by `atomic`); `files` and `numbers` (files to cells to numbers), `external` (other people's
tables), `published`, `options` and `selection` (the command line), `merged` (several runs in one
file), `load`, `item_tasks`; `errors` and `nearby` (what somebody meant).
"""
