"""A run beside a paper's tables, in text."""

from analysis.benchmarks import task
from analysis.compare.compare_paper import Beside, Difference, Score
from analysis.text import signed


def as_text(tables: list[Beside]) -> str:
    """All tables for a terminal, percent."""
    parts = []
    for one in tables:
        lines = [["", *one.table.columns, *(ours.name for ours in one.ours)]]
        for benchmark, scores in one.rows:
            mine = [_score(ours.scores.get(benchmark)) for ours in one.ours]
            theirs = [f"{scores[name]:.1f}" if name in scores else "" for name in one.table.columns]
            lines.append([task(benchmark).label, *theirs, *mine])
        text = f"{one.heading} (percent)\n{_aligned(lines)}"
        text += "".join(f"\n  {ours.name}: {ours.note}" for ours in one.ours)
        if not one.ours:
            text += "\n  This run has no scores for this table."
        text += f"\n  {one.left_out}" if one.left_out else ""
        if one.differences:
            lines = [["difference, percentage points (95 % interval)", "against", ""]]
            lines += [
                [f"{task(d.benchmark).label}, {d.ours}", d.published, difference_text(d)]
                for d in one.differences
            ]
            text += f"\n{_aligned(lines)}"
        parts.append(text)
    return "\n\n".join(parts)


def difference_text(difference: Difference) -> str:
    """+1.2 (-0.3 to +2.7)"""
    if difference.low is None or difference.high is None:
        return f"{signed(difference.points)} (errors unknown)"
    return f"{signed(difference.points)} ({signed(difference.low)} to {signed(difference.high)})"


def _score(score: Score | None) -> str:
    if score is None:
        return "not scored"
    text = f"{100 * score.value:.1f}"
    return text + ("" if score.stderr is None else f" ± {100 * score.stderr:.1f}")


def _aligned(lines: list[list[str]]) -> str:
    widths = [max(len(line[place]) for line in lines) for place in range(len(lines[0]))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
