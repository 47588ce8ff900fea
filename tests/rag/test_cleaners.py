"""What each cleaner takes out, what it leaves, and that pages keep their numbers."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tiny_pdf import write_pdf

from llmctl.errors import LlmctlError
from llmctl.rag.cleaners.base import Cleaned, Cleaner, cleaned, counted
from llmctl.rag.cutting import cut
from llmctl.rag.reading import read
from llmctl.schema.ingest import IngestRecipe


def run(kind: str, text: str, meta: dict[str, Any] | None = None, **options: Any) -> Cleaned:
    return Cleaner.of({"kind": kind, **options}).clean(text, meta or {})


PAGE = """# Cookie settings of the machine
Home | Products | About us | Contact
We use cookies to give you the best experience. Accept all cookies
Skip to content
The pump moves water. Read the privacy policy of your town before you drain it.
- Home position: valve closed
| Name | Price | Stock |
Share this on Facebook
Subscribe to our newsletter
© 2024 Example Ltd. All rights reserved.
Back to top ↑
"""


def test_boilerplate_lines_go_and_prose_stays() -> None:
    found = run("boilerplate", PAGE)
    assert found.text.splitlines() == [
        "# Cookie settings of the machine",
        "The pump moves water. Read the privacy policy of your town before you drain it.",
        "- Home position: valve closed",
        "| Name | Price | Stock |",
    ]
    assert found.counts == {
        "menu": 1, "cookies": 1, "navigation": 2, "sharing": 1, "newsletter": 1, "rights": 1,
    }  # fmt: skip
    assert found.removed == len(PAGE) - len(found.text)


def test_boilerplate_of_your_own() -> None:
    text = "Was this helpful?\nThe pump.\nWas this helpful? " + "x" * 60
    own = {"phrases": ["was THIS helpful"], "builtin": False}
    assert run("boilerplate", text, **own).counts == {"phrases": 2}
    kept = run("boilerplate", text, max_line_chars=20, **own)
    assert kept.text == text.partition("\n")[2]
    assert run("boilerplate", PAGE, builtin=False).text == PAGE


def pages(count: int) -> str:
    return "\f".join(
        f"Pump manual   {n}\nService\n\nWhat page {n} says.\nIt says {n} things.\n\nPage {n} of 9"
        for n in range(1, count + 1)
    )


def test_headers_and_footers_go_from_every_page() -> None:
    found = run("headers_footers", pages(4), lines=2)
    assert [page.split() for page in found.text.split("\f")] == [
        f"What page {n} says. It says {n} things.".split() for n in range(1, 5)
    ]
    assert found.counts == {"lines": 12}


def test_text_that_does_not_come_back_stays() -> None:
    text = "\f".join(f"Manual\n{word} is here.\nAnd {word} ends." for word in ("Oil", "Gas", "Air"))
    assert run("headers_footers", text).text == text.replace("Manual\n", "\n")
    assert run("headers_footers", text, min_pages=4).text == text
    assert run("headers_footers", "one page\nonly").removed == 0
    odd = "\f".join(f"{'Left' if n % 2 else 'Right'}\nbody {chr(97 + n)}" for n in range(8))
    assert "Left" in run("headers_footers", odd, share=0.6).text
    assert "Left" not in run("headers_footers", odd, share=0.4).text


SPOKEN = {
    "en": "The pump moves water through the filter. When pressure falls, check the valve first.",
    "de": "Die Pumpe fördert das Wasser durch den Filter. Wenn der Druck sinkt, prüfe das Ventil.",
    "fr": "La pompe fait circuler l'eau dans le filtre. Si la pression baisse, vérifiez tout.",
    "es": "La bomba mueve el agua a través del filtro. Si baja la presión, revise la válvula.",
    "it": "La pompa muove l'acqua attraverso il filtro. Se la pressione scende, spegnila.",
    "nl": "De pomp voert het water door het filter. Als de druk daalt, moet u de klep controleren.",
    "pl": "Pompa przetłacza wodę przez filtr. Jeśli ciśnienie spada, należy sprawdzić zawór.",
    "ru": "Насос прокачивает воду через фильтр. Если давление падает, нужно проверить клапан.",
    "ja": "ポンプは水をフィルターに通します。圧力が下がったら、弁を点検してください。",
    "ar": "تدفع المضخة الماء عبر المرشح. إذا انخفض الضغط يجب فحص الصمام وتنظيفه.",
}


@pytest.mark.parametrize("code", SPOKEN)
def test_languages_are_told_apart(code: str) -> None:
    pytest.importorskip("py3langid")
    assert run("language", SPOKEN[code]).meta == {"language": code}
    assert run("language", SPOKEN[code], allowed=[code]).reason is None
    other = run("language", SPOKEN[code], allowed=["cy", "vi"])
    assert other.reason == "language" and other.detail.startswith(code)


def test_what_has_no_clear_language_is_kept() -> None:
    pytest.importorskip("py3langid")
    for text in ("", "12 34", "OK", "x = f(y)"):
        found = run("language", text, allowed=["de"])
        assert found.reason is None and found.meta == {} and found.counts == {"unknown": 1}
    mixed = SPOKEN["en"] + "\n" + SPOKEN["de"] * 200
    assert run("language", mixed, max_chars=1000).meta == {"language": "de"}


def test_documents_that_are_out_of_date() -> None:
    old, new = {"date": "2019-12-31T23:00:00Z"}, {"date": "2020-01-01"}
    limit = {"newer_than": "2020-01-01"}
    assert run("dates", "x", old, **limit).reason == "out_of_date"
    assert run("dates", "x", old, **limit).detail == "date 2019-12-31 is before 2020-01-01"
    assert run("dates", "x", new, **limit).reason is None
    assert run("dates", "x", {"date": "soon"}, **limit).counts == {"undated": 1}
    assert run("dates", "x", {}, undated="drop", **limit).reason == "undated"
    assert run("dates", "x", {"made": "2001-01-01"}, field="made", **limit).reason == "out_of_date"


def test_your_own_expression_is_replaced_page_by_page() -> None:
    pytest.importorskip("re2")
    text = "Ticket #12 and #345.\f#6 on page two"
    found = run("regex", text, pattern=r"#(\d+)", replacement=r"no. \1")
    assert found.text == "Ticket no. 12 and no. 345.\fno. 6 on page two"
    assert found.counts == {"matches": 3}
    assert run("regex", "a\n\fb", pattern=r"(?s).+").text == "\f"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"pattern": "("}, "pattern: missing"),
        ({"pattern": "(?=a)b"}, "RE2 has no look-around"),
        ({"pattern": r"(a)\1"}, "RE2 has no look-around"),
        ({"pattern": "(a)", "replacement": r"\2"}, "replacement: "),
    ],
)
def test_an_expression_that_cannot_work_is_refused_in_the_recipe(
    options: dict[str, Any], told: str
) -> None:
    pytest.importorskip("re2")
    with pytest.raises(ValueError, match=r"Value error") as error:
        Cleaner.of({"kind": "regex", **options})
    assert told in str(error.value)


def test_no_expression_makes_a_text_slow() -> None:
    pytest.importorskip("re2")
    began = time.perf_counter()
    assert run("regex", "a" * 200_000 + "!", pattern=r"(a+)+$").removed == 0
    assert time.perf_counter() - began < 5


def test_wrong_decoding_is_repaired_where_it_is_certain() -> None:
    pytest.importorskip("ftfy")
    text = "Die KÃ¼che ist schÃ¶n.\nDie Küche ist schön.\f100 % naïve ± √"
    found = run("unicode", text)
    assert found.text == "Die Küche ist schön.\nDie Küche ist schön.\f100 % naïve ± √"
    assert found.counts == {"repaired_lines": 1}
    assert run("unicode", text, repair=False).text == text


def test_personal_data_is_replaced_in_text_and_metadata() -> None:
    meta = {"author": "Lee <lee@example.org>", "to": ["a@example.org", 3], "path": "a@example.org"}
    found = run("personal_data", "Mail lee@example.org or +44 20 7946 0958.", meta)
    assert found.text == "Mail [EMAIL] or [PHONE]."
    assert found.meta == {"author": "Lee <[EMAIL]>", "to": ["[EMAIL]", 3]}
    assert found.counts == {"email": 3, "phone": 1} and found.removed == 31
    only = run("personal_data", "Mail lee@example.org or +44 20 7946 0958.", types=["phone"])
    assert only.text == "Mail lee@example.org or [PHONE]."
    dropped = run("personal_data", "nothing here", meta, action="drop")
    assert (dropped.reason, dropped.detail) == ("personal_data", "3 email")
    assert run("personal_data", "nothing here", action="drop").reason is None


def test_steps_are_named_and_counted_one_by_one() -> None:
    pytest.importorskip("re2")
    steps = [
        Cleaner.of({"kind": "regex", "pattern": "a"}),
        Cleaner.of({"kind": "regex", "pattern": "b+"}),
        Cleaner.of("length"),
    ]
    removed: Counter[str] = Counter()
    assert cleaned(steps, "aabbb" + "c" * 30, {"x": 1}, removed) == Cleaned("c" * 30, meta={"x": 1})
    assert counted(steps, removed) == {
        "characters_removed": {"regex": 2, "regex-2": 3, "length": 0},
        "found_by_cleaners": {"regex-2.matches": 1, "regex.matches": 2},
    }
    assert cleaned(steps, "aab", {}, removed).reason == "too_short"


class Greedy(Cleaner):
    """A cleaner that breaks its promise."""

    def clean(self, text: str, meta: Any = None) -> Cleaned:
        return Cleaned(text.replace("\f", ""))


def test_a_cleaner_that_loses_pages_is_an_error() -> None:
    with pytest.raises(LlmctlError, match="took out form feeds"):
        cleaned([Greedy()], "a\fb", {}, Counter())


def recipe(folder: Path, **keys: Any) -> IngestRecipe:
    return IngestRecipe.model_validate(
        {"stage": "ingest", "out": "o", "source": str(folder), **keys}
    )


def test_pages_and_headings_stay_right_when_lines_before_them_go(tmp_path: Path) -> None:
    words = ["alpha", "bravo", "charlie", "delta"]
    lines = [[f"Running title {n}", f"{w} {w} text", f"Page {n}"] for n, w in enumerate(words)]
    write_pdf(tmp_path / "a.pdf", lines)
    (tmp_path / "b.md").write_text(
        "---\ntitle: By x@example.org\n---\nSkip to content\n# One\n\nAccept all cookies\n\n"
        "Mail x@example.org about it.\n\n## Two\n\nBack to top\n\nThe second part is here.\n"
    )
    kinds = ["boilerplate", "headers_footers", "personal_data", "whitespace"]
    made = recipe(tmp_path, cleaners=kinds, chunker="page")
    metrics: dict[str, Any] = {}
    documents, dropped = read(made, metrics)
    assert not dropped
    paged, headed = documents
    assert "Running title" not in paged["text"] and "Page" not in paged["text"]
    chunks = cut(made, paged).chunks
    assert [(c["meta"]["page"], c["text"].split()[0]) for c in chunks] == [
        (n + 1, word) for n, word in enumerate(words)
    ]
    assert headed["title"] == "By [EMAIL]"
    chunks = cut(recipe(tmp_path, chunker="markdown"), headed).chunks
    assert [(c["meta"]["headings"], c["text"]) for c in chunks] == [
        (["One"], "# One\n\nMail [EMAIL] about it."),
        (["One", "Two"], "## Two\n\nThe second part is here."),
    ]
    assert all(headed["text"][c["start"] : c["end"]] == c["text"] for c in chunks)
    assert metrics["found_by_cleaners"]["personal_data.email"] == 2
