"""Answer 5 and the headline as sentences: the setting to use, and what it costs each benchmark."""

from collections.abc import Mapping, Sequence

from analysis.advice.setting import Setting
from analysis.report.words.sentences import bound
from analysis.text import NOTHING, Unit, listed, percent, rate


def place(setting: Setting, sized: bool) -> str:
    """1e-3 with batch size 8; `sized`: the batch size is known."""
    return (
        f"{rate(setting.learning_rate)}{f' with batch size {setting.batch_size}' if sized else ''}"
    )


def setting(setting: Setting, units: Mapping[str, Unit], sized: bool = True) -> str:
    """Answer 5: what to run and what it may lose; `units` by benchmark; `sized` as in `place`."""
    text = f"{setting.label}: learning rate {place(setting, sized)}"
    if len(setting.prices) == 1:
        unit, expected = units[setting.prices[0].benchmark], setting.expected_regret
        return (
            f"{text}; expected to lose {unit.amount(expected)} against the best of this grid"
            f"{bound(unit, expected, setting.regret_high, ', at most {}')}."
        )
    expected, most = percent(setting.expected_regret), percent(setting.regret_high)
    text += f"; expected to lose {expected} of the range of scores"
    if most != expected:
        text += f", at most {most}"
    if not setting.disagree:
        return f"{text}. {_agree(setting, units)}"
    own = []
    for price in setting.prices:
        if price.dearer and price.own is not None:
            unit = units[price.benchmark]
            cell = f"{rate(price.own[0])}{f' x {price.own[1]}' if sized else ''}"
            own.append(
                f"{price.label} loses {unit.amount(price.expected)} here and "
                f"{unit.amount(price.own_expected)} with {cell}"
            )
    return f"{text}. Its benchmarks disagree: {listed(own)}."


def _agree(setting: Setting, units: Mapping[str, Unit]) -> str:
    """Who has a say, and what a benchmark gains at most by a setting of its own."""
    silent = [price.label for price in setting.prices if not price.weight]
    prices = [price for price in setting.prices if price.weight]
    said = ""
    if silent:
        alone = f"{listed([price.label for price in prices])} alone decide"
        why = f"the cells of {listed(silent)} are not known to differ beyond noise"
        said = f"{alone}{'s' if len(prices) == 1 else ''}, as {why}"
    if len(prices) == 1:
        return f"{said}."
    most = max(prices, key=lambda price: (price.expected - price.own_expected) / price.epsilon)
    gain = most.expected - most.own_expected
    text = "No benchmark is expected to gain by a setting of its own"
    amount = units[most.benchmark].amount(max(gain, 0.0))
    if amount != NOTHING:
        text = f"{most.label} would gain the most by a setting of its own: {amount}"
    return f"{said}{'. ' if said else ''}{text}."


def headline(settings: Sequence[Setting], sized: bool = True, scored: Sequence[str] = ()) -> str:
    """One sentence for the top: a setting for each task type or benchmark; `sized` as in `place`.
    `scored` are the names of cells that have a score, where there are too few for a setting."""
    if not settings:
        if not scored:
            return "No cell has a score yet."
        verb = "One cell has" if len(scored) == 1 else "Too few cells have"
        return f"{verb} a score: {listed(scored)}."
    same = {(setting.learning_rate, setting.batch_size) for setting in settings}
    if len(same) == 1:
        first = settings[0]
        labels = listed([_within(setting.label) for setting in settings])
        return f"Use learning rate {place(first, sized)} for {labels}."
    parts = [f"{place(setting, sized)} for {_within(setting.label)}" for setting in settings]
    return f"Use learning rate {listed(parts)}."


def _within(label: str) -> str:
    """A label inside a sentence: a name with capitals of its own keeps them."""
    return label if any(letter.isupper() for letter in label[1:]) else label.lower()
