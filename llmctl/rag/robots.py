"""robots.txt (RFC 9309): the longest rule that fits a path decides, with `*` and `$`.

The standard library's parser takes the first rule and knows no wildcards, so it would fetch what
`Disallow: /*.pdf` forbids.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urlsplit

MOST = 500_000
"""Bytes of a robots.txt that count, as the RFC allows."""
MOST_RULES = 5000


@dataclass
class Robots:
    """The rules for one program; `allow` None means that they decide."""

    rules: list[tuple[str, bool]] = field(default_factory=list)
    delay: float = 0.0
    allow: bool | None = None

    def allows(self, url: str) -> bool:
        """Whether a page may be fetched; of rules of equal length the allowing one counts."""
        if self.allow is not None:
            return self.allow
        parts = urlsplit(url)
        path = _plain(parts.path or "/") + (f"?{_plain(parts.query)}" if parts.query else "")
        best = (-1, True)
        for rule, allowed in self.rules:
            if len(rule) >= best[0] and _fits(rule, path):
                best = max(best, (len(rule), allowed))
        return best[1]


def parse(text: str, agent: str) -> Robots:
    """The group of `agent` (its name before the slash), else the group of `*`."""
    name = agent.split("/")[0].strip().lower()
    groups: dict[str, Robots] = {}
    current: list[str] = []
    naming = False
    for line in text[:MOST].splitlines():
        key, colon, value = line.partition("#")[0].partition(":")
        key, value = key.strip().lower(), value.strip()
        if not colon:
            continue
        if key == "user-agent":
            current = [*current, value.lower()] if naming else [value.lower()]
            naming = True
            for each in current:
                groups.setdefault(each, Robots())
            continue
        naming = False
        for each in current:
            _rule(groups[each], key, value)
    return groups.get(name) or groups.get("*") or Robots()


def _rule(robots: Robots, key: str, value: str) -> None:
    if key in ("allow", "disallow") and value and len(robots.rules) < MOST_RULES:
        robots.rules.append((_plain(value), key == "allow"))
    elif key == "crawl-delay" and re.fullmatch(r"\d{1,4}(\.\d+)?", value):
        robots.delay = float(value)


def _plain(path: str) -> str:
    """One spelling for the same path: %7E and ~ are equal."""
    return quote(unquote(path), safe="/*$?=&;:@!'(),+~")


def _fits(rule: str, path: str) -> bool:
    """Whether a path begins as a rule says; each part is searched once, so no rule is slow."""
    ended = rule.endswith("$")
    first, *rest = (rule[:-1] if ended else rule).split("*")
    if not path.startswith(first):
        return False
    at = len(first)
    for number, part in enumerate(rest, 1):
        if ended and number == len(rest):
            return path.endswith(part) and len(path) - len(part) >= at
        found = path.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    return not ended or at == len(path)
