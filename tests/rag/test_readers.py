"""Each reader on real files of its format, written by the libraries that people use."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from datetime import date, datetime
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from llmctl.rag.readers.base import Parsed, Reader, Unreadable

pytest.importorskip("bs4")


def one(kind: str, path: Path, **keys: Any) -> Parsed:
    """The only document of a file."""
    [(_, parsed)] = list(Reader.of({"kind": kind, **keys}).read_all(path))
    assert isinstance(parsed, Parsed)
    return parsed


def many(kind: str, path: Path, **keys: Any) -> dict[str, Parsed | Unreadable]:
    return dict(Reader.of({"kind": kind, **keys}).read_all(path))


def text_of(each: Parsed | Unreadable) -> str:
    assert isinstance(each, Parsed), each
    return each.text


# --- Word ---------------------------------------------------------------------------------------


def test_word_headings_lists_and_tables_become_markdown(tmp_path: Path) -> None:
    docx = pytest.importorskip("docx")
    document = docx.Document()
    document.core_properties.title = "Pump manual"
    document.core_properties.author = "A. Writer"
    document.core_properties.created = datetime(2024, 5, 6, 7, 8, 9)
    document.add_heading("Pump manual", 0)
    document.add_heading("Cleaning", 1)
    document.add_paragraph("Clean the filter monthly.")
    document.add_heading("Tools", 2)
    document.add_paragraph("a brush", style="List Bullet")
    table = document.add_table(rows=2, cols=2)
    for cell, words in zip(table._cells, ["Part", "Price", "Filter | fine", "3"], strict=True):
        cell.text = words
    document.save(tmp_path / "a.docx")
    found = one("docx", tmp_path / "a.docx")
    assert found.title == "Pump manual" and found.headed
    assert found.meta["author"] == "A. Writer" and found.meta["created"].startswith("2024-05-06")
    assert "# Pump manual\n\n# Cleaning\n\nClean the filter monthly.\n\n## Tools" in found.text
    assert "a brush" in found.text
    assert "| Part | Price |\n| --- | --- |\n| Filter \\| fine | 3 |" in found.text


def test_word_styles_based_on_headings_and_nested_tables(tmp_path: Path) -> None:
    docx = pytest.importorskip("docx")
    document = docx.Document()
    style = document.styles.add_style("Chapter of ours", 1)
    style.base_style = document.styles["Heading 2"]
    document.add_paragraph("Warranty", style=style)
    outer = document.add_table(rows=1, cols=2)
    inner = outer.cell(0, 1).add_table(rows=1, cols=1)
    outer.cell(0, 0).text = "left"
    inner.cell(0, 0).text = "inside"
    paragraph = document.add_paragraph("first")
    paragraph.add_run().add_break()
    paragraph.add_run("second\tthird")
    document.save(tmp_path / "b.docx")
    text = one("docx", tmp_path / "b.docx").text
    assert text.startswith("## Warranty")
    assert text.count("inside") == 1 and "| left | inside |" in text
    assert "first\nsecond\tthird" in text


def office(path: Path, parts: dict[str, str | bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in parts.items():
            file.writestr(name, data)
    return path


WORD = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'


def test_word_leaves_out_deleted_text_and_keeps_footnotes_and_content_controls(
    tmp_path: Path,
) -> None:
    body = (
        "<w:p><w:r><w:t>kept</w:t></w:r><w:del><w:r><w:delText>gone</w:delText></w:r></w:del>"
        "<w:ins><w:r><w:t> added</w:t></w:r></w:ins></w:p>"
        "<w:sdt><w:sdtContent><w:p><w:r><w:t>controlled</w:t></w:r></w:p></w:sdtContent></w:sdt>"
        "<w:p><w:hyperlink><w:r><w:t>a link</w:t></w:r></w:hyperlink></w:p>"
    )
    path = office(
        tmp_path / "c.docx",
        {
            "word/document.xml": f"<w:document {WORD}><w:body>{body}</w:body></w:document>",
            "word/footnotes.xml": f"<w:footnotes {WORD}><w:footnote><w:p><w:r><w:t>a note</w:t>"
            "</w:r></w:p></w:footnote></w:footnotes>",
        },
    )
    assert one("docx", path).text == "kept added\n\ncontrolled\n\na link\n\na note"


# --- PowerPoint ---------------------------------------------------------------------------------


def slides(path: Path, count: int = 3) -> Path:
    pptx = pytest.importorskip("pptx")
    show = pptx.Presentation()
    for number in range(1, count + 1):
        slide = show.slides.add_slide(show.slide_layouts[1])
        slide.shapes.title.text = f"Slide {number}"
        slide.placeholders[1].text = f"point {number}\nanother"
        slide.notes_slide.notes_text_frame.text = f"say {number}"
    shape = slide.shapes.add_table(2, 2, 0, 0, 999999, 999999)
    for row, words in enumerate([("Part", "Price"), ("Filter", "3")]):
        for column, word in enumerate(words):
            shape.table.cell(row, column).text = word
    show.core_properties.title = "Quarter"
    show.save(path)
    return path


def test_slides_are_pages_with_titles_tables_and_notes(tmp_path: Path) -> None:
    found = one("pptx", slides(tmp_path / "a.pptx"))
    pages = found.text.split("\f")
    assert found.paged and found.headed and found.meta["pages"] == 3 and found.title == "Quarter"
    assert [f"# Slide {n}" in page for n, page in enumerate(pages, 1)] == [True] * 3
    assert "point 2\nanother" in pages[1] and "Notes: say 2" in pages[1]
    assert "| Part | Price |\n| --- | --- |\n| Filter | 3 |" in pages[2]


def test_notes_can_be_left_out_and_slides_keep_their_order(tmp_path: Path) -> None:
    pptx = pytest.importorskip("pptx")
    path = slides(tmp_path / "a.pptx", 12)  # slide10.xml sorts before slide2.xml
    show = pptx.Presentation(path)
    order = show.slides._sldIdLst
    order.insert(0, order[11])
    show.save(path)
    text = one("pptx", path, notes=False).text
    assert "say" not in text
    assert [page.strip().split("\n")[0] for page in text.split("\f")][:3] == [
        "# Slide 12", "# Slide 1", "# Slide 2"
    ]  # fmt: skip


def test_grouped_shapes_and_empty_shows(tmp_path: Path) -> None:
    pptx = pytest.importorskip("pptx")
    show = pptx.Presentation()
    slide = show.slides.add_slide(show.slide_layouts[6])
    show.save(tmp_path / "empty.pptx")
    with pytest.raises(Unreadable, match="1 slides without text"):
        one("pptx", tmp_path / "empty.pptx")
    group = slide.shapes.add_group_shape()
    group.shapes.add_textbox(0, 0, 9999, 9999).text_frame.text = "in a group"
    show.save(tmp_path / "group.pptx")
    assert one("pptx", tmp_path / "group.pptx").text.strip() == "in a group"


# --- Excel and CSV --------------------------------------------------------------------------------


def book(path: Path) -> Path:
    openpyxl = pytest.importorskip("openpyxl")
    file = openpyxl.Workbook()
    parts = file.active
    parts.title = "Parts"
    parts.append([])  # the header need not be the first row
    parts.append(["Name", "Price", "Since", None, "Name"])
    parts.append(["Filter", 3.5, date(2024, 1, 31), "x", "fine"])
    parts.append([None, None, None])
    parts.append(["Pump", 120.0, datetime(2024, 2, 1, 8, 30), None, None])
    file.create_sheet("Empty")
    file.create_sheet("Staff").append(["Who"])
    file["Staff"].append(["Ada"])
    file.save(path)
    return path


def test_sheets_are_documents_of_named_values(tmp_path: Path) -> None:
    found = many("xlsx", book(tmp_path / "a.xlsx"))
    assert list(found) == ["Parts", "Staff"]
    assert text_of(found["Parts"]) == (
        "Name: Filter; Price: 3.5; Since: 2024-01-31; column 4: x; Name 5: fine\n\n"
        "Name: Pump; Price: 120; Since: 2024-02-01T08:30:00"
    )
    assert list(many("xlsx", tmp_path / "a.xlsx", sheets=["Staff"])) == ["Staff"]


def test_rows_of_a_sheet_are_documents_with_fields(tmp_path: Path) -> None:
    fields = {"text": ["Name"], "id": "Name", "meta": ["Price"], "title": "Name"}
    path = book(tmp_path / "a.xlsx")
    found = many("xlsx", path, per="row", fields=fields, sheets=["Parts"])
    assert list(found) == ["Parts!Filter", "Parts!Pump"]
    pump = found["Parts!Pump"]
    assert isinstance(pump, Parsed)
    assert pump.text == "Pump" and pump.meta["Price"] == 120 and pump.title == "Pump"
    wrong = many("xlsx", path, fields={"text": ["Nome"]})
    assert isinstance(wrong["Parts"], Unreadable)
    assert "no field 'Nome'; there are: Name, Price, Since" in wrong["Parts"].detail


def test_a_sheet_that_claims_to_be_huge_is_read_at_once(tmp_path: Path) -> None:
    path = book(tmp_path / "a.xlsx")
    with zipfile.ZipFile(path) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    sheet = parts["xl/worksheets/sheet1.xml"]
    begin, end = sheet.index(b'<dimension ref="'), sheet.index(b"/>", sheet.index(b"<dimension"))
    parts["xl/worksheets/sheet1.xml"] = (
        sheet[:begin] + b'<dimension ref="A1:XFD1048576"' + sheet[end:]
    )
    office(path, parts)
    assert "Pump" in text_of(many("xlsx", path)["Parts"])


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.csv", b'name,price\n"Filter, fine",3\nPump,\n\n'),
        ("b.csv", b'\xef\xbb\xbfname;price\r\n"Filter, fine";3\r\nPump;\r\n'),
        ("c.tsv", "name\tprice\nFilter, fine\t3\nPump\t\n".encode("utf-16")),
    ],
)
def test_tables_of_any_dialect(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    found = one("csv", tmp_path / name)
    assert found.text == "name: Filter, fine; price: 3\n\nname: Pump"
    assert found.meta == {"rows": 2}


def test_rows_of_a_table_in_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    rows = [["nr", "text"], ["7", "Prüfung\nzwei Zeilen"], ["8", ""], ["9", "Ende"]]
    out = io.StringIO()
    csv.writer(out, delimiter="|").writerows(rows)
    path.write_bytes(out.getvalue().encode("cp1252"))
    with pytest.raises(Unreadable, match="byte 0xfc is not utf-8"):
        one("csv", path)
    fields = {"text": ["text"], "id": "nr"}
    found = many("csv", path, per="row", fields=fields, encoding="cp1252", delimiter="|")
    assert list(found) == ["7", "8", "9"]
    assert text_of(found["7"]) == "Prüfung\nzwei Zeilen"
    assert isinstance(found["8"], Unreadable) and found["8"].reason == "empty"


# --- JSON and Parquet ---------------------------------------------------------------------------


def test_json_lines_are_documents_and_a_wrong_line_is_one_loss(tmp_path: Path) -> None:
    rows = [
        {"key": "a", "body": "one", "by": {"name": "Ada"}, "tags": ["x", "y"]},
        {"key": "b", "body": "two"},
    ]
    lines = [json.dumps(rows[0]), "{broken", "", "[1]", json.dumps(rows[1]), '"\\ud800"']
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    fields = {"text": ["body"], "id": "key", "meta": ["tags"]}
    found = many("json", tmp_path / "a.jsonl", fields={**fields, "title": "by.name"})
    assert list(found) == ["a", "row=2", "row=4", "b", "row=6"]
    first = found["a"]
    assert isinstance(first, Parsed) and first.title == "Ada" and first.meta == {"tags": ["x", "y"]}
    reasons = [each.reason for each in found.values() if isinstance(each, Unreadable)]
    assert reasons == ["broken_json", "not_a_row", "no_field", "not_a_row"]


@pytest.mark.parametrize(
    ("text", "keys", "texts"),
    [
        ('[ {"t": "one"} , {"t": "two"} ]', {}, ["t: one", "t: two"]),
        ('{"t": "one", "n": 3, "none": null}', {}, ["t: one\nn: 3"]),
        ('{"data": [{"t": "one"}], "next": 2}', {"items": "data"}, ["t: one"]),
    ],
)
def test_json_files_hold_an_object_a_list_or_a_list_inside(
    tmp_path: Path, text: str, keys: dict[str, Any], texts: list[str]
) -> None:
    (tmp_path / "a.json").write_text(text)
    assert [text_of(each) for each in many("json", tmp_path / "a.json", **keys).values()] == texts


def test_parquet_rows_with_named_columns(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    table = pa.table(
        {
            "id": [f"r{n}" for n in range(600)],
            "text": [f"words {n}" for n in range(600)],
            "when": [date(2024, 1, 1)] * 600,
            "by": [{"name": "Ada"}] * 600,
        }
    )
    for name, options in (("a", {}), ("b", {"compression": "zstd"}), ("c", {"row_group_size": 50})):
        pq.write_table(table, tmp_path / f"{name}.parquet", **options)
        fields = {"text": ["text"], "id": "id", "meta": ["when", "by.name"]}
        found = many("parquet", tmp_path / f"{name}.parquet", fields=fields)
        assert len(found) == 600
        last = found["r599"]
        assert isinstance(last, Parsed) and last.text == "words 599"
        assert last.meta == {"when": date(2024, 1, 1), "by.name": "Ada"}


# --- reStructuredText, EPUB, code -----------------------------------------------------------------

RST = """\
=====
Guide
=====

:Author: Ada
:Date: 2024-05-06

Intro with a `link <https://example.org>`_ and :ref:`a role <target>` and ``code``.

Install
-------

.. code-block:: python
   :linenos:

   def f():
       return 1

Then::

    $ run it

.. note:: Mind the gap.

   It is wide.

.. a comment
   of two lines

Deeper
~~~~~~
.. toctree::
   :maxdepth: 2

   other

Text.
"""


def test_rst_becomes_markdown(tmp_path: Path) -> None:
    (tmp_path / "a.rst").write_text(RST)
    found = one("rst", tmp_path / "a.rst")
    assert found.title == "Guide"
    assert found.meta == {"author": "Ada", "date": "2024-05-06"}
    assert "Intro with a link and a role and `code`." in found.text
    assert "## Install\n\n```python\ndef f():\n    return 1\n```" in found.text
    assert "Then:\n\n```\n$ run it\n```" in found.text
    assert "Mind the gap." in found.text and "It is wide." in found.text
    assert "### Deeper" in found.text and found.text.endswith("Text.\n")
    assert not any(word in found.text for word in ("comment", "toctree", "other", "..", "linenos"))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Plain words only.\n\nMore.\n", "Plain words only.\n\nMore.\n"),
        ("A\n===\na\n\nB\n---\nb\n\nC\n===\nc\n", "# A\n\na\n\n## B\n\nb\n\n# C\n\nc\n"),
        ("a\n\n----\n\nb\n", "a\n\nb\n"),
        (".. include:: /etc/passwd\n\nb\n", "b\n"),
    ],
)  # fmt: skip
def test_rst_levels_follow_their_order(tmp_path: Path, text: str, wanted: str) -> None:
    (tmp_path / "a.rst").write_text(text)
    assert one("rst", tmp_path / "a.rst").text == wanted


def epub(path: Path, chapters: list[str], folder: str = "OEBPS/", **more: str) -> Path:
    items = "".join(
        f'<item id="c{n}" href="text/c%20{n}.xhtml" media-type="application/xhtml+xml"/>'
        for n in range(len(chapters))
    )
    spine = "".join(f'<itemref idref="c{n}"/>' for n in reversed(range(len(chapters))))
    opf = (
        '<package xmlns="http://www.idpf.org/2007/opf" version="3.0">'
        '<metadata xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>The Book</dc:title>'
        "<dc:creator>Ada</dc:creator><dc:language>en</dc:language><dc:date>1999</dc:date></metadata>"
        f"<manifest>{items}</manifest><spine>{spine}</spine></package>"
    )
    container = (
        '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
        f'<rootfile full-path="{folder}book.opf"/></rootfiles></container>'
    )
    pages = {f"{folder}text/c {n}.xhtml": each for n, each in enumerate(chapters)}
    return office(
        path, {"META-INF/container.xml": container, f"{folder}book.opf": opf, **pages, **more}
    )


@pytest.mark.parametrize("folder", ["OEBPS/", "", "a/b/"])
def test_epub_chapters_come_in_the_order_of_the_spine(tmp_path: Path, folder: str) -> None:
    page = (
        '<?xml version="1.0"?><!DOCTYPE html><html><body><h2>{0}</h2><p>text {0}</p></body></html>'
    )
    chapters = [page.format("Last"), page.format("First"), "<html><body><img/></body></html>"]
    found = one("epub", epub(tmp_path / "a.epub", chapters, folder))
    assert found.text == "## First\n\ntext First\n\n## Last\n\ntext Last"
    assert found.title == "The Book"
    assert found.meta == {"author": "Ada", "language": "en", "created": "1999"}


@pytest.mark.parametrize(
    ("name", "language"),
    [("a.py", "python"), ("b.rs", "rust"), ("Dockerfile", "dockerfile"), ("x.CPP", "cpp")],
)
def test_code_keeps_its_lines_and_tells_its_language(
    tmp_path: Path, name: str, language: str
) -> None:
    (tmp_path / name).write_bytes(b"if x:\r\n    y\r\n")
    found = one("code", tmp_path / name)
    assert found.text == "if x:\n    y\n" and found.meta == {"programming_language": language}
    assert Reader.of("code").takes(tmp_path / name)
    (tmp_path / name).write_text("x" * 6000)
    with pytest.raises(Unreadable, match="generated: a line of 6000 > 5000"):
        one("code", tmp_path / name)


# --- e-mail -----------------------------------------------------------------------------------


def message(n: int, body: Callable[[EmailMessage], object]) -> EmailMessage:
    mail = EmailMessage()
    mail["From"] = "Ada Ä <ada@example.org>"
    mail["To"] = "bob@example.org"
    mail["Subject"] = f"Überschrift {n}"
    mail["Date"] = "Mon, 06 May 2024 07:08:09 +0200"
    mail["Message-ID"] = f"<{n}@example.org>"
    body(mail)
    return mail


def test_a_message_with_html_and_an_attachment(tmp_path: Path) -> None:
    def body(mail: EmailMessage) -> None:
        mail.set_content("<h1>Hi</h1><p>the <b>text</b></p><script>no</script>", subtype="html")
        mail.add_attachment(b"x", maintype="application", subtype="pdf", filename="bill.pdf")

    (tmp_path / "a.eml").write_bytes(bytes(message(1, body)))
    found = one("email", tmp_path / "a.eml")
    assert found.title == "Überschrift 1" and found.text == "# Hi\n\nthe text\n"
    assert found.meta["created"] == "2024-05-06T07:08:09+02:00"
    assert found.meta["attachments"] == ["bill.pdf"] and "ada@example.org" in found.meta["author"]


def test_a_message_prefers_plain_text_and_may_have_only_a_subject(tmp_path: Path) -> None:
    def both(mail: EmailMessage) -> None:
        mail.set_content("plain é\n")
        mail.add_alternative("<p>html</p>", subtype="html")

    (tmp_path / "a.eml").write_bytes(bytes(message(1, both)))
    assert one("email", tmp_path / "a.eml").text == "plain é\n"
    (tmp_path / "b.eml").write_bytes(bytes(message(2, lambda mail: None)))
    assert one("email", tmp_path / "b.eml").text == "Überschrift 2"
    (tmp_path / "c.eml").write_bytes(
        b"From: x\nSubject: s\nContent-Type: text/plain; charset=wat\n\nb\n"
    )
    assert one("email", tmp_path / "c.eml").text == "b\n"


def test_a_forwarded_message_is_read_too(tmp_path: Path) -> None:
    inner = message(1, lambda mail: mail.set_content("The pump is loud.\n"))
    outer = message(2, lambda mail: mail.set_content("See below.\n"))
    outer.add_attachment(inner)
    whole = message(3, lambda mail: mail.add_attachment(outer))  # nothing but a message in it
    for name, mail in (("outer", outer), ("whole", whole)):
        (tmp_path / f"{name}.eml").write_bytes(bytes(mail))
    below = f"From: {inner['from']}\nSubject: {inner['subject']}\n\nThe pump is loud.\n"
    assert one("email", tmp_path / "outer.eml").text == f"See below.\n\n{below}"
    found = one("email", tmp_path / "whole.eml")
    assert found.text.endswith(f"See below.\n\n{below}") and found.title == whole["subject"]


def test_every_message_of_a_mailbox_is_a_document(tmp_path: Path) -> None:
    import mailbox

    box = mailbox.mbox(tmp_path / "a.mbox")
    for n in range(3):
        box.add(message(n, lambda mail: mail.set_content("From here on\n\nFrom there\n")))
    box.add(message(2, lambda mail: mail.set_content("twice\n")))
    box.add(b"Nothing: here\n\nno mail\n")
    box.close()
    found = many("email", tmp_path / "a.mbox")
    names = ["0@example.org", "1@example.org", "2@example.org", "message=4", "message=5"]
    assert list(found) == names
    assert text_of(found["1@example.org"]) == "From here on\n\nFrom there\n"
    assert text_of(found["message=4"]) == "twice\n"
    bad = found["message=5"]
    assert isinstance(bad, Unreadable) and bad.reason == "not_email"


# --- HTML and PDF --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "encoding"),
    [
        ('<meta charset="iso-8859-1">', "cp1252"),
        ('<meta http-equiv="Content-Type" content="text/html; charset=shift_jis">', "shift_jis"),
        ('<meta charset="utf-8">', "utf-16"),
        ('<meta charset="iso-8859-1">', "utf-8-sig"),
        ("", "utf-8"),
    ],
)
def test_pages_are_decoded_as_they_tell(tmp_path: Path, head: str, encoding: str) -> None:
    words = "日本" if encoding == "shift_jis" else "“Größe”"
    page = f"<html lang=de><head>{head}</head><body><p>{words}</p></body></html>"
    (tmp_path / "a.html").write_bytes(page.encode(encoding))
    found = one("html", tmp_path / "a.html")
    assert found.text == words and found.meta == {"language": "de"}


def test_pages_tell_author_and_dates(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<head><meta name="Author" content=" Ada  L "><meta property="article:published_time" '
        'content="2024-05-06"><meta itemprop="dateModified" content="2024-06-01"></head>'
        '<body><p>x</p><time datetime="2020-01-01">then</time></body>'
    )
    assert one("html", tmp_path / "a.html").meta == {
        "author": "Ada L", "created": "2024-05-06", "modified": "2024-06-01"
    }  # fmt: skip


def test_a_pdf_tells_author_and_dates(tmp_path: Path) -> None:
    pytest.importorskip("pypdf")
    from pypdf import PdfWriter
    from tiny_pdf import write_pdf

    writer = PdfWriter(clone_from=write_pdf(tmp_path / "a.pdf", [["words"]], "Title"))
    writer.add_metadata(
        {"/Author": "Ada", "/CreationDate": "D:20240506070809Z", "/ModDate": "D:last week"}
    )
    writer.write(tmp_path / "a.pdf")
    found = one("pdf", tmp_path / "a.pdf")
    assert found.title == "Title"
    assert found.meta == {"pages": 1, "author": "Ada", "created": "2024-05-06T07:08:09+00:00"}


# --- files as people have them -------------------------------------------------------------------

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize(
    ("kind", "names", "words"),
    [
        ("markdown", ("README.md", "CHANGELOG.md", "docs/ingest.md"), "llmctl"),
        ("text", ("LICENSE", "recipes/samples/docs/opening-hours.txt", "Makefile"), ""),
        ("code", ("llmctl/cli.py", "scripts/demo.py", "pyproject.toml"), "llmctl"),
    ],
)
def test_files_of_this_project(kind: str, names: tuple[str, ...], words: str) -> None:
    for name in names:
        found = one(kind, ROOT / name)
        assert len(found.text) > 100 and words in found.text


def test_mail_of_pythons_own_tests() -> None:
    """Digests, bounces, signed and broken messages from the archives of real lists."""
    folder = Path(json.__file__).parent.parent / "test/test_email/data"
    if not folder.is_dir():
        pytest.skip("this Python comes without its tests")
    kept, reasons = 0, []
    for path in sorted(folder.glob("msg_*.txt")):
        try:
            found = one("email", path)
        except Unreadable as error:
            reasons.append(error.reason)
            continue
        kept += 1
        assert found.text.strip() and "Content-Transfer-Encoding:" not in found.text, path
    assert kept >= 35 and len(reasons) <= 10 and set(reasons) <= {"not_email", "no_text"}
    bounce = one("email", folder / "msg_43.txt")
    assert "BANNED FILENAME ALERT" in bounce.text and bounce.meta["created"]


def test_parquet_of_pyarrows_own_tests() -> None:
    pyarrow = pytest.importorskip("pyarrow")
    files = sorted((Path(pyarrow.__file__).parent / "tests/data/parquet").glob("*.parquet"))
    if not files:
        pytest.skip("this pyarrow comes without its tests")
    for path in files:
        found = many("parquet", path)
        first = text_of(next(iter(found.values())))
        assert len(found) >= 3 and ("carat: 0.2" in first or "b: 0.1" in first), path


def test_pdfs_that_a_browser_prints(tmp_path: Path) -> None:
    """Three files with embedded fonts, one of them of several pages in three scripts."""
    pytest.importorskip("pypdf")
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("no program `chromium` on PATH")
    long = "".join(f"<h2>Part {n}</h2><p>{'The filter is cleaned. ' * 60}</p>" for n in range(12))
    pages = {
        "short": ("<title>Short</title><p>The pump stands behind the house.", "behind the house"),
        "long": (f"<title>Long</title>{long}", "Part 11"),
        "scripts": ("<meta charset=utf-8><title>T</title><p>Größe, Ελλάδα, Москва", "Москва"),
    }
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
               "--disable-background-networking", "--no-pdf-header-footer",
               f"--user-data-dir={tmp_path / 'profile'}"]  # fmt: skip
    for name, (page, wanted) in pages.items():
        (tmp_path / f"{name}.html").write_text(page, encoding="utf-8")
        target = tmp_path / f"{name}.pdf"
        subprocess.run(
            [program, *options, f"--print-to-pdf={target}", (tmp_path / f"{name}.html").as_uri()],
            check=True, capture_output=True, timeout=120,
        )  # fmt: skip
        found = one("pdf", target)
        assert wanted in " ".join(found.text.split())
        assert found.meta["pages"] == found.text.count("\f") + 1 >= (2 if name == "long" else 1)
