"""Figures: plain data first, then one renderer for paper and one for the page.

Reading order: `data`, `interpolate`, `density_region`, `scaling_rules`; then `contour`, `ratio`,
`mix`, `style`, and `interactive`.
"""
