"""Files made to do harm or simply broken: each is one reason, quickly, and the run goes on."""

from __future__ import annotations

import io
import json
import struct
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmctl.errors import InputError
from llmctl.rag import packages, reading
from llmctl.rag.readers.base import Reader, Unreadable
from llmctl.schema.ingest import IngestRecipe

for needed in ("bs4", "pypdf", "openpyxl", "docx", "pptx"):
    pytest.importorskip(needed)

WORD = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
BOMB = b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x "ha"><!ENTITY y "&x;&x;&x;">]><a>&y;</a>'
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(1000)


def zipped(parts: dict[str, bytes | str]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in parts.items():
            file.writestr(name, data)
    return out.getvalue()


def word(body: str, **more: bytes | str) -> bytes:
    document = f"<w:document {WORD}><w:body>{body}</w:body></w:document>"
    return zipped({"word/document.xml": document, **more})


def deep(tag: str, depth: int = 5000) -> str:
    return f"<w:{tag}>" * depth + f"</w:{tag}>" * depth


def saved(kind: str) -> bytes:
    """A good file of an Office format."""
    import docx
    import openpyxl
    import pptx

    out = io.BytesIO()
    if kind == "docx":
        document = docx.Document()
        document.add_paragraph("Some good words.")
        document.save(out)
    elif kind == "xlsx":
        book = openpyxl.Workbook()
        book.active.append(["a"])
        book.active.append(["Some good words."])
        book.save(out)
    else:
        show = pptx.Presentation()
        show.slides.add_slide(show.slide_layouts[0]).shapes.title.text = "Some good words."
        show.save(out)
    return out.getvalue()


def with_part(data: bytes, name: str, part: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        parts: dict[str, bytes | str] = {each: file.read(each) for each in file.namelist()}
    return zipped({**parts, name: part})


def lying(data: bytes) -> bytes:
    """The same package, whose directory declares that its largest member has one byte."""
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        largest = max(file.infolist(), key=lambda member: member.file_size)
    size, wrong = struct.pack("<L", largest.file_size), struct.pack("<L", 1)
    return data.replace(size, wrong)


def flagged(data: bytes) -> bytes:
    """The same package with its first member marked as encrypted."""
    at = data.index(b"PK\x01\x02") + 8
    return data[:at] + b"\x01" + data[at + 1 :]


def mail(depth: int) -> bytes:
    lines = [b"From: a@b.c\nSubject: s\n"]
    for n in range(depth):
        lines.append(b'Content-Type: multipart/mixed; boundary="b%d"\n\n--b%d\n' % (n, n))
    return b"".join(lines) + b"\ntext\n"


def hostile() -> Iterator[tuple[str, bytes, str]]:
    """(name, bytes, reason)"""
    megabytes = b"<w:p/>" * 4_000_000
    for kind in ("docx", "pptx", "xlsx", "epub"):
        yield f"empty.{kind}", b"", "empty"
        yield f"password.{kind}", OLE, "encrypted"
        yield f"picture.{kind}", b"\x89PNG\r\n" + bytes(99), "broken_package"
        yield f"bomb.{kind}", zipped({"word/document.xml": megabytes}), "zip_bomb"
        yield f"climb.{kind}", zipped({"../../etc/cron.d/x": b"x"}), "unsafe_package"
        yield f"windows.{kind}", zipped({"..\\..\\x": b"x"}), "unsafe_package"
        yield f"root.{kind}", zipped({"/etc/passwd": b"x"}), "unsafe_package"
        yield f"locked.{kind}", flagged(zipped({"a": b"x"})), "encrypted"
    for kind in ("docx", "pptx", "xlsx"):
        good = saved(kind)
        yield f"cut.{kind}", good[: len(good) // 2], "broken_package"
        yield f"entities.{kind}", with_part(good, "docProps/core.xml", BOMB), "unsafe_xml"
    yield "missing.docx", zipped({"a": b"x"}), "broken_package"
    yield "missing.pptx", zipped({"a": b"x"}), "broken_package"
    yield "missing.epub", zipped({"mimetype": b"application/epub+zip"}), "broken_package"
    yield "missing.xlsx", zipped({"a": b"x"}), "broken_xlsx"
    yield "book.xlsx", with_part(saved("xlsx"), "xl/workbook.xml", BOMB), "unsafe_xml"
    sheet = "xl/worksheets/sheet1.xml"
    yield "sheet.xlsx", with_part(saved("xlsx"), sheet, b"<worksheet><row"), "broken_xlsx"
    yield "deep.docx", word(deep("sdt")), "too_deep"
    yield "entity.docx", zipped({"word/document.xml": BOMB}), "unsafe_xml"
    yield "noxml.docx", zipped({"word/document.xml": b"words"}), "broken_xml"
    yield "scan.docx", word("<w:p/>"), "no_text"
    yield "lying.docx", lying(word("<w:p><w:r><w:t>x</w:t></w:r></w:p>" * 9)), "broken_package"
    yield "pdf.docx", b"%PDF-1.4\n", "broken_package"
    yield "docx.pdf", word("<w:p/>"), "broken_pdf"
    yield "drm.epub", protected(), "encrypted"
    yield "deep.json", b"[" * 200_000, "too_deep"
    yield "deep.jsonl", b'{"a":' * 100_000 + b"\n", "too_deep"
    yield "cut.json", b'[{"a": 1}, {"a"', "broken_json"
    yield "number.json", b"3", "not_a_row"
    yield "binary.json", b'{"a": "\0"}', "binary"
    yield "latin.jsonl", b'{"a": "\xe9"}\n', "not_utf8"
    yield "broken.parquet", b"PAR1" + bytes(50) + b"PAR1", "broken_parquet"
    yield "short.parquet", b"PA", "broken_parquet"
    yield "binary.csv", b"a,b\n\0,2\n", "binary"
    yield "header.csv", b"a,b\n", "no_text"
    yield "latin.csv", b"a\n\xe9\n", "not_utf8"
    yield "binary.rst", bytes(9), "binary"
    yield "deep.html", b"<div>" * 30_000 + b"x", "broken_html"
    yield "binary.html", b"<p>\0</p>", "binary"
    yield "no.eml", b"just words\n", "not_email"
    yield "deep.eml", mail(3000), "too_deep"
    yield "secret.eml", b"From: a\nContent-Type: application/pkcs7-mime\n\nx", "encrypted"
    yield "empty.mbox", b"", "empty"
    yield "no.mbox", b"words\n", "not_mbox"
    yield "binary.py", b"x = 1\0", "binary"
    yield "bundle.js", b"x" * 6000, "generated"


def protected() -> bytes:
    container = '<container><rootfiles><rootfile full-path="b.opf"/></rootfiles></container>'
    opf = (
        '<package><manifest><item id="a" href="a.xhtml" media-type="application/xhtml+xml"/>'
        '</manifest><spine><itemref idref="a"/></spine></package>'
    )
    locks = '<encryption><CipherReference URI="a.xhtml"/></encryption>'
    names = ("META-INF/container.xml", "b.opf", "META-INF/encryption.xml", "a.xhtml")
    return zipped(dict(zip(names, (container, opf, locks, b"secret"), strict=True)))


KINDS = ("markdown", "html", "text", "pdf", "docx", "pptx", "xlsx", "csv", "json", "parquet",
         "rst", "epub", "email", "code")  # fmt: skip


def recipe(folder: Path, **keys: Any) -> IngestRecipe:
    given = {"stage": "ingest", "out": "out", "source": str(folder), "readers": KINDS, **keys}
    return IngestRecipe.model_validate(given)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All hostile files, and a good one of each kind between them."""
    found = tmp_path_factory.mktemp("hostile")
    for name, data, _ in hostile():
        (found / name).write_bytes(data)
    for kind in ("docx", "pptx", "xlsx"):
        (found / f"good.{kind}").write_bytes(saved(kind))
    for name in ("good.md", "good.txt", "good.html", "good.rst", "good.py"):
        (found / name).write_text("Some good words.")
    (found / "good.jsonl").write_text('{"a": "Some good words."}\n{wrong\n{"a": "More of them."}\n')
    (found / "good.csv").write_text("a\nSome good words.\n")
    return found


def test_each_is_left_out_with_its_reason_and_nothing_else_is_lost(
    folder: Path, tmp_path: Path
) -> None:
    started = time.monotonic()
    documents, dropped = reading.read(recipe(folder, cleaners=()), {})
    seconds = time.monotonic() - started
    reasons = {row["uri"].split("#")[0]: row["reason"] for row in dropped}
    wanted = {name: reason for name, _, reason in hostile()}
    assert reasons == {**wanted, "good.jsonl": "broken_json"}
    assert all("\n" not in row["detail"] and row["detail"] for row in dropped)
    good = sorted(document["uri"] for document in documents)
    assert good == sorted(
        ["good.docx", "good.pptx", "good.xlsx#Sheet", "good.md", "good.txt", "good.html",
         "good.rst", "good.py", "good.jsonl#row=1", "good.jsonl#row=3", "good.csv",
         "cut.json#row=1"]
    )  # fmt: skip
    assert seconds < 30


@pytest.mark.parametrize("name", ["bomb.docx", "deep.json", "entity.docx", "password.xlsx"])
def test_on_error_fail_ends_the_run_with_one_line(folder: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes((folder / name).read_bytes())
    with pytest.raises(InputError) as error:
        reading.read(recipe(tmp_path, on_error="fail"), {})
    assert error.value.exit_code == 2
    assert str(error.value).startswith(f"{tmp_path / name}: ") and "\n" not in str(error.value)


def test_a_huge_line_is_skipped_and_the_next_one_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmctl.rag.readers.json.LONGEST", 100)
    rows = [{"a": "x" * 1000}, {"a": "good"}, {"a": "y" * 100}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    documents, dropped = reading.read(recipe(tmp_path, cleaners=()), {})
    assert [(d["uri"], d["text"]) for d in documents] == [("a.jsonl#row=2", "a: good")]
    assert [(d["uri"], d["reason"]) for d in dropped] == [
        ("a.jsonl#row=1", "too_large"), ("a.jsonl#row=3", "too_large")
    ]  # fmt: skip


def test_a_huge_message_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmctl.rag.readers.email.LONGEST", 200)
    big = "From a\nSubject: big\n\n" + "words\n" * 100
    (tmp_path / "a.mbox").write_text(f"{big}\nFrom b\nSubject: small\n\nfine\n")
    found = dict(Reader.of("email").read_all(tmp_path / "a.mbox"))
    first = found["message=1"]
    assert isinstance(first, Unreadable) and first.reason == "too_large"
    assert getattr(found["message=2"], "text", "") == "fine\n"


def test_memory_does_not_grow_with_a_stream(tmp_path: Path) -> None:
    """100,000 rows, one at a time: a list of them would be many times the limit."""
    import tracemalloc

    with (tmp_path / "a.jsonl").open("w") as file:
        for n in range(100_000):
            file.write(f'{{"a": "row number {n} {"x" * 300}"}}\n')
    tracemalloc.start()
    count = sum(1 for _ in Reader.of("json").read_all(tmp_path / "a.jsonl"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 100_000 and peak < 2_000_000


def test_a_parser_that_fails_in_a_new_way_loses_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: object, path: Path) -> None:
        raise ZeroDivisionError("of a parser\nand more")

    monkeypatch.setattr("llmctl.rag.readers.text.TextReader.read", fail)
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "b.md").write_text("b")
    documents, dropped = reading.read(recipe(tmp_path, cleaners=()), {})
    assert [d["uri"] for d in documents] == ["b.md"]
    assert dropped[0]["detail"] == "ZeroDivisionError: of a parser"


def test_xml_may_not_nest_or_declare(monkeypatch: pytest.MonkeyPatch) -> None:
    assert packages.parse_xml(b"<a x='1'><b>c</b></a>").findtext("b") == "c"
    assert packages.parse_xml("<a>é</a>".encode("utf-16")).text == "é"
    with pytest.raises(Unreadable, match="too_deep"):
        packages.parse_xml(b"<a>" * 201)
    with pytest.raises(Unreadable, match="unsafe_xml"):
        packages.parse_xml(b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>')
    with pytest.raises(Unreadable, match="broken_xml"):
        packages.parse_xml(b'<?xml version="1.0" encoding="wat"?><a/>')
