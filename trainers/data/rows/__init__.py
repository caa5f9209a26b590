"""Rows as people store them. Reading order: `sources`, `stored_rows`, `json_rows`, `hub_data`."""
