#!/usr/bin/env python3
"""Makes the fonts of this folder, and their licence, from DejaVu 2.37 (Debian: fonts-dejavu-core).

    python3 -m venv /tmp/fonts && /tmp/fonts/bin/pip install fonttools==4.68.0
    /tmp/fonts/bin/python src/raster/fonts/subset.py /usr/share/fonts/truetype/dejavu src/raster/fonts

The same input gives the same bytes.
"""

import pathlib
import sys

from fontTools import subset
from fontTools.ttLib import TTFont

FONTS = ["DejaVuSans", "DejaVuSans-Bold"]
# What a picture may need: the scripts that devices and models are named in, and the signs that figures use.
KEPT = [
    (0x0020, 0x007E),  # Latin
    (0x00A0, 0x00FF),  # Latin-1: ° ± µ · ×
    (0x0100, 0x017F),  # Latin Extended-A
    (0x0300, 0x036F),  # accents that stand over the letter before
    (0x0370, 0x03FF),  # Greek
    (0x2010, 0x2015),  # hyphens and dashes
    (0x2018, 0x201E),  # quotation marks
    (0x2020, 0x2022),  # daggers and the bullet
    (0x2026, 0x2026),  # …
    (0x2030, 0x2030),  # ‰
    (0x20AC, 0x20AC),  # €
    (0x2122, 0x2122),  # ™
    (0x2190, 0x2195),  # arrows
    (0x2212, 0x2212),  # −
    (0x221E, 0x221E),  # ∞
    (0x2248, 0x2248),  # ≈
    (0x2260, 0x2265),  # ≠ ≤ ≥
    (0xFFFD, 0xFFFD),  # what stands for a character that cannot be shown
]
LICENCE = 13


def main():
    source, target = map(pathlib.Path, sys.argv[1:3])
    options = subset.Options(
        hinting=False,
        layout_features=["ccmp", "kern", "locl", "mark", "mkmk"],
        # Copyright, names, version, licence and its address: a binary with the fonts carries their notice.
        name_IDs=[0, 1, 2, 3, 4, 5, 6, 13, 14],
        notdef_outline=True,
        drop_tables=["FFTM", "DSIG"],
    )
    for name in FONTS:
        font = TTFont(source / f"{name}.ttf", recalcTimestamp=False)
        assert font["name"].getDebugName(5) == "Version 2.37", "another version than the licence beside it was read for"
        text = font["name"].getDebugName(LICENCE)
        (target / "LICENSE").write_text("\n".join(line.rstrip() for line in text.splitlines()) + "\n")
        one = subset.Subsetter(options)
        one.populate(unicodes=[code for first, last in KEPT for code in range(first, last + 1)])
        one.subset(font)
        font.save(target / f"{name}.ttf")
        print(f"{name}: {len(font.getBestCmap())} characters, {(target / f'{name}.ttf').stat().st_size} bytes")


main()
