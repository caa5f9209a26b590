"""From scores to a recommended LR/BS ratio: results -> surface -> recommend -> report.

Reading order: `benchmarks`, `tables`, `posterior`, `fit`, `advice`, `compare`, `design`, `audit`,
`figures`, `report`; `text` has words for all of them.
"""
