"""The error of a table that cannot be read."""


class ResultsError(ValueError):
    """The path or table given is not one the analysis can read; the message says why."""
