"""Personal data in texts: e-mail addresses, phone and card numbers, IBANs, IP addresses, API keys.

Rules that can be read and checked, no model: numbers have to pass their checksum (Luhn for cards,
ISO 7064 for IBANs), and a national phone number needs a word such as "tel" before it. Names and
postal addresses are not found. All patterns are bounded, so time grows with the text alone.
"""

from __future__ import annotations

import ipaddress
import re
from bisect import insort
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple, get_args

Kind = Literal["key", "iban", "email", "card", "ip", "phone"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""In order of precedence: of two that overlap, the first is what it is."""


class Found(NamedTuple):
    """Personal data at text[start:end]."""

    start: int
    end: int
    kind: Kind


def find(text: str, kinds: Sequence[Kind] = KINDS) -> list[Found]:
    """Personal data of the kinds asked for, in order and without overlaps."""
    found: list[Found] = []
    for kind in KINDS:
        if kind in kinds:
            new = [Found(start, end, kind) for start, end in FINDERS[kind](text)]
            for each in _apart(new, found):
                insort(found, each)
    return found


def _apart(new: Sequence[Found], taken: Sequence[Found]) -> list[Found]:
    """Those of `new` that overlap neither each other nor the sorted `taken`."""
    kept: list[Found] = []
    at = 0
    for each in new:
        while at < len(taken) and taken[at].end <= each.start:
            at += 1
        free = at == len(taken) or taken[at].start >= each.end
        if free and (not kept or kept[-1].end <= each.start):
            kept.append(each)
    return kept


def redact(text: str, kinds: Sequence[Kind] = KINDS) -> tuple[str, Counter[str]]:
    """The text with `[EMAIL]`, `[PHONE]` ... in place of what was found, and how often.

    What only shows when its neighbour is gone goes too: nothing is found in the result.
    """
    counts: Counter[str] = Counter()
    while found := find(text, kinds):
        parts: list[str] = []
        at = 0
        for start, end, kind in found:
            parts += [text[at:start], tag(kind)]
            counts[kind] += 1
            at = end
        text = "".join([*parts, text[at:]])
    return text, counts


def tag(kind: str) -> str:
    """What stands in the place of personal data: `[EMAIL]`."""
    return f"[{kind.upper()}]"


EMAIL = re.compile(
    r"(?<![\w.+-])[\w%+-](?:[\w.%+'-]{0,62}[\w%+-])?"
    r"(?:@|\s?[\[(]\s?at\s?[\])]\s?)"
    r"(?:[^\W_](?:[\w-]{0,61}[^\W_])?(?:\.|\s?[\[(]\s?dot\s?[\])]\s?)){1,6}[^\W\d_]{2,24}(?![\w@])",
    re.I,
)
FILES = {"png", "jpg", "jpeg", "gif", "svg", "webp", "css", "js", "html", "local", "invalid"}
"""Ends of `icon@2x.png` and of addresses that nobody can have."""


def _emails(text: str) -> Iterator[tuple[int, int]]:
    for match in EMAIL.finditer(text):
        name, _, domain = match[0].partition("@")
        remote = name == "git" and text[match.end() : match.end() + 1] == ":"
        if domain.rpartition(".")[2].lower() not in FILES and not remote and ".." not in name:
            yield match.span()


INTERNATIONAL = re.compile(
    r"(?<![\w.+/-])(?<!\d )(?:\+|00)[1-9]\d{0,2}(?:[ .\-/]?\(0?\d{1,4}\))?"
    r"(?:[ .\-/]?\d{1,5}){2,6}(?![\w-])"
)
NORTH_AMERICAN = re.compile(
    r"(?<![\w.+/-])(?:1[-. ])?(?:\([2-9]\d\d\) ?|[2-9]\d\d[-. ])[2-9]\d\d[-. ]\d{4}(?![\w-]|\.\d)"
)
NATIONAL = re.compile(
    r"(?:\b(?:tel|phone|telephone|telefon|t[ée]l[ée]phone|t[ée]l|mobile|mobil|cell|fax|call|dial|"
    r"ring|whatsapp|sms|text(?: me| us)?(?: at| on)|reach(?: me| us)? (?:at|on))\b|☎|📞)"
    r"[^\w\n]{0,4}(?:(?:number|no|nummer|us|me|is|at|on|under|unter)\b[^\w\n]{0,3}){0,2}"
    r"(\(?0?\d(?:[ .\-/()]{0,2}\d){6,13})(?![\w-]|\.\d)",
    re.I,
)


def _phones(text: str) -> Iterator[tuple[int, int]]:
    found = {match.span() for match in NORTH_AMERICAN.finditer(text)}
    found |= {match.span(1) for match in NATIONAL.finditer(text)}
    for match in INTERNATIONAL.finditer(text):
        digits = re.sub(r"\D", "", match[0]).removeprefix("00")
        spaced = match[0].startswith("+") or re.search(r"\D", match[0])
        if 8 <= len(digits) <= 15 and spaced:
            found.add(match.span())
    yield from sorted(found, key=lambda span: (span[0], -span[1]))


CARD = re.compile(r"(?<![\w.,:/#+-])\d(?:[ -]?\d){12,18}(?![\w-]|[.,]\d)")
ISSUERS = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})"  # Visa
    r"|(?:5[1-5]\d{2}|222[1-9]|22[3-9]\d|2[3-6]\d{2}|27[01]\d|2720)\d{12}"  # Mastercard
    r"|3[47]\d{13}"  # American Express
    r"|(?:6011|65\d{2}|64[4-9]\d)\d{12}"  # Discover
    r"|35(?:2[89]|[3-8]\d)\d{12}"  # JCB
    r"|3(?:0[0-5]|[689]\d)\d{11}"  # Diners Club
    r"|62\d{14,17}"  # UnionPay
)


def luhn(digits: str) -> bool:
    """The check digit of card numbers (ISO/IEC 7812)."""
    doubled = (int(d) * (1 + n % 2) for n, d in enumerate(reversed(digits)))
    return sum(value - 9 if value > 9 else value for value in doubled) % 10 == 0


def _cards(text: str) -> Iterator[tuple[int, int]]:
    for match in CARD.finditer(text):
        digits = re.sub(r"\D", "", match[0])
        if ISSUERS.fullmatch(digits) and luhn(digits):
            yield match.span()


IBAN_LENGTHS = {
    country: int(length)
    for country, length in re.findall(
        r"([A-Z]{2})(\d\d)",
        "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DK18 DO28 "
        "EE20 EG29 ES24 FI18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 "
        "IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 MC27 MD24 ME22 MK19 MR27 MT31 MU30 NL18 "
        "NO15 PK24 PL28 PS29 PT25 QA29 RO24 RS22 SA24 SC31 SE24 SI19 SK24 SM27 ST25 TL23 TN24 TR26 "
        "UA29 VA22 VG24 XK20",
    )
}
"""Country -> characters of its IBANs (SWIFT's IBAN registry)."""
IBAN = re.compile(r"\b([A-Z]{2})\d{2}(?=(?:[ -]?[A-Z0-9]){11})")


def iban_holds(code: str) -> bool:
    """The check digits of an IBAN without spaces (ISO 7064, mod 97)."""
    moved = code[4:] + code[:4]
    return int("".join(str(int(each, 36)) for each in moved)) % 97 == 1


def _ibans(text: str) -> Iterator[tuple[int, int]]:
    for match in IBAN.finditer(text):
        wanted = IBAN_LENGTHS.get(match[1], 0)
        code, at = "", match.start()
        while at < len(text) and len(code) < wanted:
            if text[at] not in " -":
                code += text[at]
            at += 1
        ends = at == len(text) or not text[at].isalnum()
        if wanted and re.fullmatch(r"[A-Z0-9]+", code) and ends and iban_holds(code):
            yield match.start(), at


IPV4 = re.compile(r"(?<![\w.-])(?:\d{1,3}\.){3}\d{1,3}(?!\.?\d|[\w-])")
IPV6 = re.compile(r"(?<![\w:.])(?:[0-9a-f]{0,4}:){2,7}(?:[0-9a-f]{1,4}|:)?(?![\w:])", re.I)
VERSION = re.compile(
    r"(?:\b(?:v|ver|version|release|section|chapter|clause)\.?\s?|§\s?|==|[^/:]/)\Z", re.I
)
"""What stands before a number with dots that is no address: v1.2.3.4, Name/1.2.3.4."""


def _addresses(text: str) -> Iterator[tuple[int, int]]:
    spans = [match.span() for pattern in (IPV4, IPV6) for match in pattern.finditer(text)]
    for start, end in sorted(spans):
        try:
            address = ipaddress.ip_address(text[start:end])
        except ValueError:
            continue
        if address.is_loopback or address.is_unspecified or address.is_multicast:
            continue  # they name no machine
        if address.version == 6:
            groups = [group for group in text[start:end].split(":") if group]
            if len(groups) < 3 and not (len(groups) == 2 and re.search(r"\d", text[start:end])):
                continue  # more likely a scope operator of a programming language
        elif text[start:end].startswith(("0.", "255.")):
            continue  # masks
        elif VERSION.search(text[max(0, start - 12) : start]):
            continue
        yield start, end


KEYS = re.compile(
    r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"  # AWS
    r"|\bgh[pousr]_[A-Za-z0-9]{36,255}\b|\bgithub_pat_\w{22,255}\b|\bglpat-[\w-]{20,64}"
    r"|\bsk-(?:proj-|ant-|or-)?[A-Za-z0-9_-]{20,200}|\b[srp]k_(?:live|test)_[A-Za-z0-9]{16,128}\b"
    r"|\bxox[abeprs]-[A-Za-z0-9-]{10,200}|\bAIza[\w-]{35}|\bhf_[A-Za-z0-9]{30,64}\b"
    r"|\bSG\.[\w-]{16,32}\.[\w-]{16,64}|\bnpm_[A-Za-z0-9]{36}\b|\bpypi-[\w-]{50,250}"
    r"|\beyJ[\w-]{8,2000}\.eyJ[\w-]{8,4000}\.[\w-]{8,1000}"  # JSON web token
    r"|-----BEGIN (?:[A-Z]{2,12} ){0,2}PRIVATE KEY-----[^\f-]{20,8000}-----END [A-Z ]{3,40}-----"
)
ASSIGNED = re.compile(
    r"(?:api[_-]?key|access[_-]?key|secret(?:[_-]?key)?|auth[_-]?token|token|passw(?:or)?d|pwd)"
    r"[\"']?[ \t]{0,4}(?::|=>?)[ \t]{0,4}(?:Bearer )?[\"']?"
    r"(?P<value>[A-Za-z0-9_\-/+=.~!@#$%^&*]{8,200})(?![\w(\[{])",
    re.I,
)
PLACEHOLDER = re.compile(
    r"your|example|xxx|\*\*\*|change|placeholder|dummy|environ|getenv|<|\.\.\.", re.I
)


def _keys(text: str) -> Iterator[tuple[int, int]]:
    found = {match.span() for match in KEYS.finditer(text)}
    for match in ASSIGNED.finditer(text):
        value = match["value"].rstrip(".")
        letters, digits = re.search("[A-Za-z]", value), re.search(r"\d", value)
        if letters and digits and len(set(value)) > 6 and not PLACEHOLDER.search(value):
            found.add((match.start("value"), match.start("value") + len(value)))
    yield from sorted(found, key=lambda span: (span[0], -span[1]))


FINDERS: dict[Kind, Callable[[str], Iterator[tuple[int, int]]]] = {
    "key": _keys,
    "iban": _ibans,
    "email": _emails,
    "card": _cards,
    "ip": _addresses,
    "phone": _phones,
}
