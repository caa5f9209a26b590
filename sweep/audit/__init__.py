"""Audit of the training data: contamination by benchmark items, and languages.

Command: `python -m sweep.audit`. In a sweep, `run_audit` is called before the first trial. Reading
order: `scan` (parts of the data), `conversations` (rows as training reads them), `records` (what is
written), `run_audit`.
"""
