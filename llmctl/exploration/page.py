"""The exploration as sections of a report."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from llmctl.exploration import profile as profiles
from llmctl.exploration import richness
from llmctl.exploration.profile import Profile
from llmctl.exploration.views import View
from llmctl.report.html import Report

SHOWN = 1500
"""Characters of a text in the report."""
LONGEST = 24
"""Bars of a plot."""


def write_sections(report: Report, found: Profile) -> None:
    """Add everything that was found, the most telling first."""
    overview(report, found)
    lengths(report, found)
    asked(report, found)
    topics(report, found)
    vocabulary(report, found)
    balance(report, found)
    judged(report, found)
    report.examples("Random rows", [(head(view), body(view)) for view in found.shown])


def findings(found: Profile) -> list[tuple[str, str]]:
    """What stands at the top of the page and in the terminal."""
    sample = found.sample
    total = sample.rows.total()
    lines = [("rows", ", ".join(f"{n:,} {split}" for split, n in sample.rows.items()))]
    if total > len(sample.views):
        lines.append(("looked at word by word", f"{len(sample.views):,}, drawn from all rows"))
    lines.append(("equal rows", share(sample.equal_rows, total)))
    near = f"{share(found.near, len(sample.views))} at {profiles.THRESHOLD:g} of word 5-grams"
    lines.append(("near-duplicates", near))
    if sample.equal_instructions:
        lines.append(("repeated instructions", share(sample.equal_instructions, total)))
    for split, count in sample.leaked.items():
        if count:
            what = f"{split} rows whose instruction is in train"
            lines.append((what, share(count, sample.rows[split])))
    if found.marks:
        marks = ", ".join(f"{mark} in {n:,}" for mark, n in found.marks.most_common(4))
        lines.append(("template marks in the text", f"{marks} rows"))
    if found.languages:
        most = found.languages.most_common(4)
        told = found.languages.total()
        named = ", ".join(f"{code} {100 * n / told:.1f} %" for code, n in most)
        lines.append(("languages", f"{named} of {told:,} rows"))
    for role, values in found.roles.items():
        spread = profiles.spread(values)
        middle, high = spread["p50"], spread["p95"]
        lines.append((f"{role}, {found.unit}", f"median {middle:,.0f}, 95 % below {high:,.0f}"))
    return lines


def share(count: int, of: int) -> str:
    """A count with its share."""
    return f"{count:,} of {of:,} ({100 * count / max(of, 1):.1f} %)"


def overview(report: Report, found: Profile) -> None:
    """The findings."""
    report.facts(findings(found))
    if not found.languages:
        report.text("Languages were not told: pip install 'llmctl-toolkit[rag]'.")


def lengths(report: Report, found: Profile) -> None:
    """Histograms of each role and, when there are several, of each split."""
    report.heading("Lengths")
    for role, values in found.roles.items():
        most, beyond = cut(values)
        title = f"{role}: {found.unit} of {len(values):,} rows"
        if beyond:
            title += f" ({beyond:,} longer ones are not drawn)"
        report.histogram(title, {role: most}, found.unit)
    if len(found.splits) > 1:
        report.histogram(
            "Whole rows by split",
            {split: cut(values)[0] for split, values in found.splits.items()},
            found.unit,
        )
    names = ("n", "total", "min", "p5", "p25", "p50", "p75", "p95", "p99", "max")
    each = {role: profiles.spread(values) for role, values in found.roles.items()}
    report.table(["role", *names], [[role, *(s[n] for n in names)] for role, s in each.items()])


def cut(values: Sequence[int]) -> tuple[Sequence[int], int]:
    """(values up to four times the 95th percentile, how many are longer)."""
    limit = 4 * profiles.spread(values)["p95"] + 1
    most = array("q", (value for value in values if value <= limit))
    return most, len(values) - len(most)


def asked(report: Report, found: Profile) -> None:
    """Verbs with their nouns."""
    if not found.instructions:
        return
    report.heading("What is asked for")
    known = found.verbs.total()
    report.text(
        f"Verb and noun of {share(known, found.instructions)} instructions, by a rule for English; "
        "questions stand under their question word."
    )
    pairs = [(f"{verb} {noun}".strip(), float(n)) for (verb, noun), n in found.verbs.most_common()]
    report.ranked(f"{len(found.verbs):,} different pairs", pairs[:LONGEST], "instructions")


def topics(report: Report, found: Profile) -> None:
    """Groups of rows with their keywords and typical rows."""
    if not found.topics:
        return
    report.heading("Topics")
    report.text(
        f"{len(found.topic_rows):,} rows grouped by their words. The keywords are frequent in a "
        "group and rare elsewhere; the rows are the nearest to its middle."
    )
    named = [(", ".join(t.keywords[:4]), float(t.size)) for t in found.topics]
    report.ranked("Rows of each topic", named, "rows")
    for topic in found.topics:
        typical = [found.topic_rows[i] for i in topic.examples]
        rows = [(head(view), body(view, SHOWN // 3)) for view in typical]
        report.details(f"{topic.size:,} rows: {', '.join(topic.keywords)}", rows)


def vocabulary(report: Report, found: Profile) -> None:
    """How rich each role's words are."""
    report.heading("Vocabulary")
    report.text(
        f"Of the first {profiles.RICH_WORDS:,} words of each role. MTLD: how many words in a row "
        f"keep a type-token ratio above {richness.FACTOR} (McCarthy and Jarvis 2010); "
        "English prose has 70 to 120. distinct-n: share of the n-grams that are different ones "
        "(Li et al. 2016)."
    )
    columns = ["words", "mtld", "distinct_1", "distinct_2", "distinct_3"]
    rows = [[role, *(r[c] for c in columns)] for role, r in found.richness.items()]
    report.table(["role", *columns], rows)


def balance(report: Report, found: Profile) -> None:
    """Where rows come from, in which language, and whom they speak of."""
    sources = found.sample.sources
    if sources:
        most = [(name, float(n)) for name, n in sources.most_common(LONGEST)]
        report.heading("Sources")
        report.ranked(f"{len(sources):,} source{'' if len(sources) == 1 else 's'}", most, "rows")
    if len(found.languages) > 1:
        report.heading("Languages")
        report.ranked(
            f"{found.languages.total():,} rows",
            [(code, float(n)) for code, n in found.languages.most_common(LONGEST)],
            "rows",
        )
    if found.groups:
        report.heading("Groups of people")
        report.text(
            "Rows with a word from a short English list for each group. A count says where to "
            "look; it is no judgement of bias."
        )
        report.ranked(
            "Rows that mention", [(g, float(n)) for g, n in found.groups.most_common()], "rows"
        )
        words = ", ".join(f"{term} {n:,}" for term, n in found.terms.most_common(40))
        report.text(f"Most frequent words: {words}.")


def judged(report: Report, found: Profile) -> None:
    """Scores, and the rows at both ends."""
    sample = found.sample
    if not sample.scores:
        return
    report.heading("Judgements")
    title = f"Scores of {share(len(sample.scores), sample.rows.total())} rows"
    report.histogram(title, {"score": sample.scores}, "score")
    for name, rows in (("Worst", sample.worst), ("Best", sample.best[::-1])):
        if rows:
            marked = [(f"{view.score:g}  {head(view)}", body(view)) for view in rows]
            report.examples(f"{name} judged rows", marked)


def head(view: View) -> str:
    """What names a row."""
    return "  ".join(each for each in (view.split, view.id, view.source) if each)


def body(view: View, characters: int = SHOWN) -> str:
    """The texts of a row under their roles."""
    if len(view.texts) == 1:
        return shortened(next(iter(view.texts.values())), characters)
    said = (f"{role}: {shortened(text, characters)}" for role, text in view.texts.items())
    return "\n---\n".join(said)


def shortened(text: str, characters: int) -> str:
    """The beginning of a text."""
    return text if len(text) <= characters else f"{text[:characters]}… ({len(text):,} characters)"
