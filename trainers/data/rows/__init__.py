"""Rows as people store them. Reading order: `sources`, `folders`, `stored_rows`, `json_rows`,
`hub_data`, `watched`.
"""
