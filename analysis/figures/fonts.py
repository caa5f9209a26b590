"""The font of the figures: DejaVu Sans without what its layout tables say of other scripts.

A PDF holds the glyphs that it uses. To find them matplotlib reads all of a font's layout tables,
which takes a quarter of a second for each figure; with the letters of a figure alone, none.
"""

import io
from functools import cache
from pathlib import Path

import matplotlib
from fontTools import subset
from fontTools.ttLib import TTFont
from matplotlib import font_manager

NAME = "DejaVu Sans Short"
WHOLE = "DejaVu Sans"
"""For a letter that the short one lacks."""

FILES = ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf")
LAYOUT = ("GSUB", "GPOS", "GDEF", "FFTM")
LETTERS = (
    *range(0x20, 0x7F), *range(0xA0, 0x180), *range(0x370, 0x400), *range(0x2010, 0x2030),
    *range(0x2070, 0x20A0), *range(0x2190, 0x21A0), *range(0x2200, 0x2300), 0x2605,
)  # fmt: skip
"""Latin, Greek, punctuation, sub- and superscripts, arrows, mathematics and the star."""


@cache
def families() -> list[str]:
    """Names of fonts for matplotlib, the first one first. The short fonts lie in its cache."""
    try:
        folder = Path(matplotlib.get_cachedir())
        for file in FILES:
            short = folder / f"short-{matplotlib.__version__}-{file}"
            if not short.exists():
                content = _short(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / file)
                aside = short.with_name(f".{short.name}.{id(content)}")
                aside.write_bytes(content)
                aside.replace(short)
            font_manager.fontManager.addfont(short)
    except OSError:  # a read-only home: the figures are the same, and take longer
        return [WHOLE]
    return [NAME, WHOLE]


def _short(path: Path) -> bytes:
    font = TTFont(path)
    for table in LAYOUT:
        if table in font:
            del font[table]
    options = subset.Options(name_IDs=["*"], notdef_outline=True)
    subsetter = subset.Subsetter(options)
    subsetter.populate(unicodes=LETTERS)
    subsetter.subset(font)
    for record in font["name"].names:
        if record.nameID in (1, 4, 16):
            record.string = record.toUnicode().replace(WHOLE, NAME).encode(record.getEncoding())
    buffer = io.BytesIO()
    font.save(buffer)
    return buffer.getvalue()
