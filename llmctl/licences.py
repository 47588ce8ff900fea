"""What a licence allows, by its SPDX or hub name, as far as a name can tell."""

from __future__ import annotations

import re

FORBIDS_COMMERCIAL = re.compile(
    r"(^|[-_ ])(nc|non-?commercial|research(-only)?)([-_ 0-9.]|$)|^(opt|bloom|mrl|aml)$", re.I
)
"""Names that forbid commercial use: CC BY-NC and its kin, licences for research."""
FREE = re.compile(
    r"^(apache-2\.0|mit|bsd|bsd-[23]-clause|isc|unlicense|cc0-1\.0|pddl|cc-by-[\d.]+|cc-by-sa-[\d.]+"
    r"|odc-by|odbl|cdla-permissive.*|cdla-sharing.*|zlib|wtfpl|mpl-2\.0|e?upl.*|ms-pl"
    r"|[al]?gpl.*|afl-3\.0|artistic-2\.0|postgresql|ecl-2\.0|epl-2\.0|ncsa|bsl-1\.0)$",
    re.I,
)
"""Names that allow any use, some with duties such as naming the source or the same licence."""


def verdict(licence: str | None, use: str) -> str:
    """`allowed`, `forbidden` or `unknown`: a name with terms of its own is unknown."""
    if not licence:
        return "unknown"
    if FORBIDS_COMMERCIAL.search(licence):
        return "forbidden" if use == "commercial" else "allowed"
    return "allowed" if FREE.match(licence) else "unknown"
