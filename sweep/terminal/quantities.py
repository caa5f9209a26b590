"""Numbers of a plan as texts that fit a table of 80 columns."""

UNKNOWN = "unknown"


def plural(count: int, what: str, ending: str = "s") -> str:
    return f"{count:,} {what}{ending if count != 1 else ''}"


def count(value: float | None) -> str:
    """In full below a million, then shorter: the table has to fit 80 columns."""
    if value is None:
        return UNKNOWN
    for size, letter in ((1e9, " G"), (1e6, " M")):
        if value >= size:
            return f"{value / size:,.2f}{letter}"
    return f"{value:,.0f}"


def bytes_(value: int | None) -> str:
    if value is None:
        return UNKNOWN
    return f"{value / 1e6:,.1f} MB" if value < 1e9 else f"{value / 1e9:,.1f} GB"


def short(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.2g}"


def flops(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.2g} FLOPs"


def hours(value: float | None) -> str:
    if value is None:
        return UNKNOWN
    return f"{value:,.1f} h" if value >= 1 else f"{value * 60:.1f} min"
