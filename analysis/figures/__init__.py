"""Figures: a chart as plain data first, then one renderer for paper and one for the page.

Reading order: `chart` (axes and layers), `surface_view`, then what builds charts: `contour` (with
`interpolate`, `density_region`, `scaling_rules`), `multiples`, `scores`, `training_curves`; then
what draws them: `draw` with `style`, `fonts` and `kept` (matplotlib), `interactive` and
`interactive.js` (plotly); `live.js` draws the page of a running sweep.
"""
