"""Lines of web pages that say nothing about their subject: cookies, menus, sharing, rights."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from llmctl.rag.cleaners.base import NO_META, Cleaned, Cleaner

RULES = {
    "cookies": re.compile(
        r"\b(?:accept|reject|manage|allow|decline)\b.{0,30}\bcookies?\b"
        r"|\bcookie (?:settings|preferences|policy|consent|notice)\b"
        r"|\b(?:we|this (?:web)?site) uses? cookies\b"
        r"|\bcookies to (?:improve|ensure|give|enhance)\b"
    ),
    "navigation": re.compile(
        r"\W*(?:skip to (?:main |the )?(?:content|navigation)|back to (?:the )?top"
        r"|toggle navigation|(?:previous|next) (?:page|article|post)|table of contents"
        r"|on this page|main menu"
        r"|you are here:?.{0,60}|breadcrumbs?|edit this page(?: on github)?|view source)\W*\Z"
    ),
    "sharing": re.compile(
        r"\W*(?:share|tweet|follow us|like us|pin it|email this)(?: this)?"
        r"(?: (?:on|via|by|to) .{0,60})?\W*\Z|\bshare on (?:facebook|twitter|x|linkedin|whatsapp)\b"
    ),
    "newsletter": re.compile(
        r"\b(?:subscribe|sign up)\b.{0,30}\b(?:newsletter|mailing list|updates)\b"
        r"|\benter your e-?mail address\b"
    ),
    "rights": re.compile(
        r"\ball rights reserved\b|\W*(?:©|\(c\)|copyright)(?: ©)? ?\d{4}\b.{0,80}\Z"
        r"|\W*(?:privacy policy|terms (?:of (?:use|service)|and conditions)|imprint)\W*\Z"
    ),
    "script": re.compile(
        r"\b(?:enable|turn on) javascript\b|\bjavascript (?:is|must be) (?:disabled|enabled)\b"
        r"|\byour browser (?:does not|doesn.t) support\b"
    ),
}
"""Name of a rule -> what a lower-case line says that it takes out."""
MENU = set(
    re.split(
        ", ",
        "home, about, about us, contact, contact us, login, log in, sign in, sign up, register, "
        "logout, search, help, faq, news, blog, careers, jobs, products, services, support, "
        "sitemap, cart, shop, pricing, menu, privacy, privacy policy, terms, terms of use, "
        "imprint, press, downloads, docs",
    )
)
SEPARATOR = re.compile(r"\s*(?:[|·•›»>]|\s{3,})\s*")


class BoilerplateCleaner(Cleaner):
    """Takes out whole lines; headings, and lines longer than `max_line_chars`, always stay."""

    phrases: tuple[Annotated[str, Field(min_length=3)], ...] = Field(
        (), description="Phrases of your own: a line that holds one is taken out, in any case."
    )
    builtin: bool = Field(
        True, description="Also English cookie, menu, sharing, newsletter and copyright lines."
    )
    max_line_chars: int = Field(
        200, ge=10, description="A longer line is prose and stays, whatever it says."
    )

    def clean(self, text: str, meta: Mapping[str, Any] = NO_META) -> Cleaned:
        """`counts` tells how many lines each rule took."""
        counts: Counter[str] = Counter()
        own = [phrase.casefold() for phrase in self.phrases]
        pages = []
        for page in text.split("\f"):
            kept = []
            for line in page.split("\n"):
                rule = self._rule(line.strip(), own)
                if rule is None:
                    kept.append(line)
                else:
                    counts[rule] += 1
            pages.append("\n".join(kept))
        done = "\f".join(pages)
        return Cleaned(done, len(text) - len(done), counts=counts)

    def _rule(self, line: str, own: list[str]) -> str | None:
        if not line or len(line) > self.max_line_chars or line.startswith("#"):
            return None
        folded = line.casefold()
        if any(phrase in folded for phrase in own):
            return "phrases"
        if not self.builtin:
            return None
        items = SEPARATOR.split(folded.strip(" |·•›»>"))
        if len(items) > 2 and sum(item in MENU for item in items) * 2 > len(items):
            return "menu"
        for name, pattern in RULES.items():
            if pattern.match(folded) or pattern.search(folded):
                return name
        return None
