"""From scores to a recommended LR/BS ratio: results -> surface -> recommend -> report."""
