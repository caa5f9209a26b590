"""The settings of runs that stand in their names: sft_lr1e-5_bs32_seed0."""

import re
from collections.abc import Mapping
from typing import Any

import pandas as pd

from analysis.tables.errors import ResultsError
from analysis.tables.external.names.columns import roles, run_names

RATE = r"(?:lr|learning[ _-]?rate)"
BATCH = r"(?:bsz?|batch(?:[ _-]?size)?)"
SIZE = rf"(?:g|(?:global|effective|total)[ _-]?)?{BATCH}"
NUMBER = r"(\d+(?:\.\d+)?(?:e[-+]?\d+)?)"
DEVICE = r"(?:(?:per[ _-]?(?:device|gpu)|device|micro)[ _-]?(?:train[ _-]?)?|m|pd)"
STEPS = r"(?:grad(?:ient)?[ _-]?acc(?:um(?:ulation)?)?(?:[ _-]?steps)?|gas?|acc(?:um)?)"
DEVICES = r"(?:(?:n|num)[ _-]?gpus?|gpus|dp|world[ _-]?size)"
_COUNT = r"[=_: -]?(\d+)(?![\d.])"

IN_NAMES = {
    column: (role, re.compile(rf"(?:^|[^a-z]){pattern}", re.IGNORECASE))
    for column, role, pattern in (
        ("learning_rate", "learning_rate", rf"{RATE}[=_: -]?{NUMBER}"),
        ("global_batch_size", "batch_size", rf"(?!{BATCH}){SIZE}{_COUNT}"),
        ("per_device_batch_size", "per_device_batch_size", rf"{DEVICE}{BATCH}{_COUNT}"),
        ("batch_size", "batch_size", rf"{SIZE}{_COUNT}"),
        ("gradient_accumulation_steps", "accumulation", rf"{STEPS}{_COUNT}(?![a-z])"),
        ("num_gpus", "devices", rf"{DEVICES}{_COUNT}(?![a-z])"),
        ("seed", "seed", r"seed[=_: -]?(\d+)"),
    )
}
"""Column -> its role, and how the name of a run says it; the surest batch size first."""

FACTORS = ("per_device_batch_size", "gradient_accumulation_steps", "num_gpus")
"""Of the effective batch size: to be asked about, where only some of the names say them, too."""

PRODUCT = re.compile(rf"(?:^|[^a-z]){SIZE}[=_: -]?\d+[x*\xd7]\d+", re.IGNORECASE)
"""bs8x4, which may be 8 or 32 examples."""

COUNTED = re.compile(
    r"(?:^|(?<=[^a-z]))(?:runs?|try|trial|attempt|rep(?:eat)?|job|part|no|id|v|version)"
    r"[=_: -]?\d+|\d{4}-?\d\d-?\d\d\S*|[0-9a-f]{8,}",
    re.IGNORECASE,
)
"""What a name counts: it sets nothing."""

SETTING = re.compile(rf"([A-Za-z]+(?:_[A-Za-z]+)*)[=:_-]?{NUMBER}(?![A-Za-z0-9])")
WORD = re.compile(r"[A-Za-z]{2,}|(?<![\w.])\d+(?:\.\d+)?[kKmMbB](?![A-Za-z0-9])")
"""Or the size of a model: 135M."""


def with_settings_of_names(
    frame: pd.DataFrame, given: Mapping[str, str], source: str, notes: list[str]
) -> pd.DataFrame:
    """Learning rate, batch size and seed from the runs' names, where no column has them and each
    name does. `given` maps roles to the columns that the caller names.

    Raises:
        ResultsError: the names say a batch size as a product.
    """
    known = {*roles(frame, {}, source)}
    known |= {role for role, column in given.items() if column in frame or column not in IN_NAMES}
    if "per_device_batch_size" in known:
        known.add("batch_size")
    if {"learning_rate", "batch_size"} <= known:
        return frame
    for column in run_names(frame):
        names: Any = frame[column].astype("str")
        said, rest = _said(names, known)
        read = dict.fromkeys(IN_NAMES[name][0] for name in said)
        sized = {"batch_size", "per_device_batch_size"} & {*known, *read}
        if sized and "learning_rate" in {*known, *read}:
            if "batch_size" in said:
                _refuse_products(names, column, source)
            notes.append(f"{', '.join(read)} from the names in {column}")
            others = _other_settings(rest)
            if others:
                notes.append(
                    f"{', '.join(others)} from the names in {column}: settings that differ"
                )
            return frame.assign(**said, **{f"config/{name}": others[name] for name in others})
    return frame


def _refuse_products(names: pd.Series, column: str, source: str) -> None:
    """
    Raises:
        ResultsError: naming the first row whose batch size is a product.
    """
    products: Any = names[names.str.contains(PRODUCT)]
    if len(products):
        raise ResultsError(
            f"{source}: row {products.index[0] + 1}: {column}: '{products.iloc[0]}' may say the "
            "batch size of one device or the effective one; write the examples per optimizer step "
            "into a column batch_size, or into a params.json in the folder of the run"
        )


def _said(names: pd.Series, known: set[str]) -> tuple[dict[str, pd.Series], pd.Series]:
    """What the names say beyond the `known` roles, by column, and the rest of each name."""
    said: dict[str, pd.Series] = {}
    for column, (role, pattern) in IN_NAMES.items():
        if column == "num_gpus" and "per_device_batch_size" not in said:
            continue
        cells: Any = names.str.extract(pattern, expand=False)
        everywhere = cells.notna().all()
        if role not in known and (everywhere or (column in FACTORS and cells.notna().any())):
            said[column] = cells
        if everywhere or column != "global_batch_size":  # else gbs8 beside bs8, read as one
            names = names.str.replace(pattern, " ", regex=True)
    if {"batch_size", "per_device_batch_size"} <= set(said):  # the plain one is of all devices
        said["global_batch_size"] = said.pop("batch_size")
    return said, names


def _other_settings(names: pd.Series) -> dict[str, pd.Series]:
    """What else the names say and differ in: `wd` of sft_lr1e-5_bs32_wd0.1, `words` of adamw and
    lion. What differs in every name, or only counts (run2, try_3, dates), is no setting."""
    parts = [COUNTED.sub(" ", name) for name in names]
    numbers = pd.DataFrame([dict(SETTING.findall(name)) for name in parts], names.index)
    words = [" ".join(WORD.findall(SETTING.sub(" ", name))) for name in parts]
    several = numbers.loc[:, numbers.notna().sum() > 1].fillna("")
    parts_of_names = several.assign(words=words)
    return {
        str(part): values
        for part, values in parts_of_names.items()
        if 1 < values.nunique() < len(values)
    }
