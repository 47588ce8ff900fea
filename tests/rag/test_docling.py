"""The reader docling with docling itself, where that is installed.

CI's machines do not have it: it needs torchvision, and that needs the newest torch. By hand, in a
virtual environment of its own:

    pip install 'torch>=2.14' torchvision -e '.[rag,layout,dev]' && pytest tests/rag/test_docling.py

The models of its PDF pipeline have the real architecture and no learning; see layout_models.py.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from layout_models import write_layout_model, write_ocr_models
from tiny_pdf import write_pdf

from llmctl.errors import MissingError
from llmctl.rag import reading
from llmctl.rag.readers.base import Parsed, Reader, Unreadable
from llmctl.runner import versions
from llmctl.schema.ingest import IngestRecipe

docx = pytest.importorskip("docx")
installed = pytest.mark.skipif(find_spec("docling") is None, reason="needs the extra layout")
office = pytest.mark.skipif(shutil.which("soffice") is None, reason="needs LibreOffice")

Use = Callable[[str], Path]
PUMP = [["The pump runs.", "It is loud."], [], ["Clean the filter each month."]]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture
def use(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Use]:
    """Let docling see in each page one box with a label, or nothing; returns the models' folder."""
    from llmctl.rag.layout import _converter

    def chosen(label: str) -> Path:
        from docling.datamodel.settings import settings

        folder = shelf / (label or "nothing")
        if not folder.exists():
            write_ocr_models(write_layout_model(folder, label))
        monkeypatch.setattr(settings, "artifacts_path", folder)
        return folder

    _converter.cache_clear()
    yield chosen
    _converter.cache_clear()


def found(path: Path, **keys: Any) -> dict[str, Parsed | Unreadable]:
    described = {"kind": "docling", "patterns": ["*"], "tables": False, **keys}
    return dict(Reader.of(described).read_all(path))


def one(path: Path, **keys: Any) -> Parsed:
    [parsed] = found(path, **keys).values()
    assert isinstance(parsed, Parsed)
    return parsed


def refused(path: Path, **keys: Any) -> Unreadable:
    with pytest.raises(Unreadable) as error:
        found(path, **keys)
    assert error.value.detail and "\n" not in error.value.detail
    return error.value


@installed
def test_word_through_docling(tmp_path: Path) -> None:
    document = docx.Document()
    document.add_heading("Manual", 0)
    document.add_heading("Part_one <b>", 1)
    document.add_paragraph("Some words.")
    table = document.add_table(rows=2, cols=2)
    for cell, words in zip(table._cells, ["Part", "Price", "Filter | fine", "3"], strict=True):
        cell.text = words
    document.save(tmp_path / "a.docx")
    parsed = one(tmp_path / "a.docx")
    assert parsed.title == "Manual" and parsed.headed and not parsed.paged
    assert "## Part_one <b>\n\nSome words." in parsed.text
    assert "| Part | Price |\n| - | - |\n| Filter \\| fine | 3 |" in parsed.text


@installed
def test_slides_and_sheets_are_pages(tmp_path: Path) -> None:
    import openpyxl
    import pptx

    show = pptx.Presentation()
    for words in ("", "Second", "", "Fourth"):
        show.slides.add_slide(show.slide_layouts[0]).shapes.title.text = words
    show.save(tmp_path / "a.pptx")
    parsed = one(tmp_path / "a.pptx")
    pages = parsed.text.split("\f")
    assert parsed.meta["pages"] == 4 and "Second" in pages[1] and "Fourth" in pages[3]
    book = openpyxl.Workbook()
    book.active.append(["Part", "Price"])
    book.create_sheet("More").append(["Filter"])
    book.save(tmp_path / "a.xlsx")
    first, second = one(tmp_path / "a.xlsx").text.split("\f")
    assert "| Part | Price |" in first and "| Filter |" in second


@installed
@office
@pytest.mark.parametrize("kind", ["odt", "doc", "rtf", "epub", "pdf"])
def test_files_that_libreoffice_writes(tmp_path: Path, use: Use, kind: str) -> None:
    import subprocess

    use("")
    for name in ("ingest", "errors", "concepts"):
        document = docx.Document()
        text = (Path(__file__).parents[2] / "docs" / f"{name}.md").read_text(encoding="utf-8")
        for block in text.split("\n\n")[:6]:
            if block.startswith("#"):
                document.add_heading(block.strip("# "), block.count("#"))
            else:
                document.add_paragraph(block)
        document.save(tmp_path / f"{name}.docx")
    profile = f"-env:UserInstallation={(tmp_path / 'profile').as_uri()}"
    command = ["soffice", profile, "--headless", "--convert-to", kind, "--outdir", str(tmp_path)]
    files = [str(each) for each in sorted(tmp_path.glob("*.docx"))]
    subprocess.run([*command, *files], check=True, capture_output=True)
    texts = {path.stem: one(path).text for path in tmp_path.glob(f"*.{kind}")}
    assert "turns a folder of documents" in " ".join(texts["ingest"].split())
    assert "How to read an error" in texts["errors"] and "What a recipe is" in texts["concepts"]


@installed
def test_old_office_files_need_libreoffice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from test_hostile_files import OLE

    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "a.doc").write_bytes(OLE)
    with pytest.raises(MissingError, match="LibreOffice is required"):
        found(tmp_path / "a.doc")


@installed
@pytest.mark.parametrize("label", ["", "text", "section_header", "table"])
def test_pages_of_a_pdf_are_counted_also_where_they_are_empty(
    tmp_path: Path, use: Use, label: str
) -> None:
    use(label)
    pages = [[], *PUMP, []]
    parsed = one(write_pdf(tmp_path / "a.pdf", pages))
    texts = [" ".join(each.split()) for each in parsed.text.split("\f")]
    assert parsed.paged and parsed.meta == {"pages": 5} and len(texts) == 5
    assert ["pump" in text for text in texts] == [False, True, False, False, False]
    assert "Clean the filter each month." in texts[3]
    assert (label == "section_header") == ("\n## The pump runs." in parsed.text)
    assert (label == "table") == ("| Clean the filter each month. |" in parsed.text)
    assert not set(parsed.text) & {"\x02", "\x1c"}


@installed
def test_a_heading_in_code_is_no_title_and_feeds_are_no_pages(tmp_path: Path) -> None:
    words = "<p>Words.</p><pre># not a title\f</pre><h2>A part</h2>"
    (tmp_path / "a.html").write_text(f"<body>{words}</body>")
    parsed = one(tmp_path / "a.html")
    assert parsed.title == "" and not parsed.paged and "\f" not in parsed.text
    (tmp_path / "b.html").write_text(f"<body><h1>The  title</h1>{words}</body>")
    assert one(tmp_path / "b.html").title == "The title"


@installed
@pytest.mark.parametrize("label", ["text", "picture"])
def test_a_scan_is_recognised_when_the_recipe_says_so(tmp_path: Path, use: Use, label: str) -> None:
    """Text that a layout model takes for a picture is not lost."""
    import pypdfium2

    use(label)
    source = write_pdf(tmp_path / "text.pdf", PUMP)
    with pypdfium2.PdfDocument(source) as pdf:
        images = [page.render(scale=3).to_pil().convert("L") for page in pdf]
    images[0].save(tmp_path / "scan.pdf", save_all=True, append_images=images[1:], resolution=216)
    images[2].save(tmp_path / "scan.png")
    for name in ("scan.pdf", "scan.png"):
        assert "ocr: true" in refused(tmp_path / name).detail
    pages = [" ".join(p.split()) for p in one(tmp_path / "scan.pdf", ocr=True).text.split("\f")]
    assert pages == ["The pump runs. It is loud.", "", "Clean the filter each month."]
    assert one(tmp_path / "scan.png", ocr=True).text.strip() == "Clean the filter each month."
    images[1].save(tmp_path / "white.png")
    assert "ocr" not in refused(tmp_path / "white.png", ocr=True).detail


@installed
def test_a_page_that_fails_is_reported_and_the_others_are_read(tmp_path: Path, use: Use) -> None:
    use("")
    whole = write_pdf(tmp_path / "a.pdf", PUMP).read_bytes()
    at = whole.rindex(b"[0 0 595 842]")
    (tmp_path / "a.pdf").write_bytes(whole[:at] + b"[0 0 000 000]" + whole[at + 13 :])
    both = found(tmp_path / "a.pdf")
    parsed, failed = both[""], both["page=3"]
    assert isinstance(parsed, Parsed) and "The pump runs." in parsed.text
    assert isinstance(failed, Unreadable) and failed.reason == "broken_page" and len(both) == 2
    assert Reader.of({"kind": "docling", "tables": False}).read(tmp_path / "a.pdf") == parsed
    given = {"kind": "docling", "tables": False}
    recipe = {"stage": "ingest", "out": "o", "source": str(tmp_path), "readers": [given]}
    documents, dropped = reading.read(IngestRecipe.model_validate(recipe), {})
    assert [d["uri"] for d in documents] == ["a.pdf"]
    assert [(d["uri"], d["reason"]) for d in dropped] == [("a.pdf#page=3", "broken_page")]


@installed
def test_broken_and_hostile_files_are_one_reason(tmp_path: Path, use: Use) -> None:
    import pypdf
    from test_hostile_files import BOMB, OLE, deep, saved, with_part, zipped

    use("")
    good = write_pdf(tmp_path / "good.pdf", PUMP)
    for name, password in (("locked.pdf", "secret"), ("open.pdf", "")):
        writer = pypdf.PdfWriter(clone_from=good)
        writer.encrypt(password, owner_password="owner")
        writer.write(tmp_path / name)
    data = good.read_bytes()
    megabytes = b"<w:p/>" * 4_000_000
    cases = {
        "a.pdf": (b"%PDF-1.4 nothing", "broken_layout"),
        "words.pdf": (b"words", "broken_layout"),
        "loop.pdf": (data.replace(b"/Kids [4 0 R", b"/Kids [2 0 R"), "broken_layout"),
        "box.pdf": (data.replace(b"[0 0 595 842]", b"[0 0 0 0]"), "broken_layout"),
        "zeros.pdf": (bytes(5000), "broken_layout"),
        "blank.pdf": (write_pdf(tmp_path / "blank.pdf", [[]]).read_bytes(), "no_text"),
        "locked.pdf": ((tmp_path / "locked.pdf").read_bytes(), "encrypted"),
        "a.png": (b"\x89PNG\r\n" + bytes(99), "broken_layout"),
        "words.docx": (b"words", "broken_package"),
        "cut.docx": (saved("docx")[:9000], "broken_package"),
        "entities.docx": (with_part(saved("docx"), "word/document.xml", BOMB), "broken_layout"),
        "deep.docx": (with_part(saved("docx"), "word/document.xml", deep("sdt").encode()),
                      "broken_layout"),
        "scan.docx": (with_part(saved("docx"), "word/document.xml", _words_of("<w:p/>")),
                      "no_text"),
        "password.docx": (OLE, "encrypted"),
        "bomb.odt": (zipped({"content.xml": megabytes, "mimetype": b"x"}), "zip_bomb"),
        "bomb.docm": (zipped({"word/document.xml": megabytes}), "zip_bomb"),
        "climb.dotx": (zipped({"../../etc/cron.d/x": b"x", "a.md": b"# hi"}), "unsafe_package"),
        "many.zip": (zipped({"a.md": b"# one", "b.html": b"two"}), "broken_package"),
        "hidden.pdf": (zipped({"a.html": b"two"}), "broken_package"),
        "deep.html": (b"<div>" * 30_000 + b"x", "too_deep"),
        "deep.epub": (zipped({"mimetype": b"application/epub+zip", "a.xhtml": b"<p>" * 300}),
                      "too_deep"),
        "no.html": (b"", "empty"),
        "d.xyz": (b"words", "unknown_format"),
        "a.tex": (b"\\documentclass{article}\\input{/etc/passwd}", "unknown_format"),
        "a.mp3": (b"ID3" + bytes(99), "unknown_format"),
    }  # fmt: skip
    for name, (content, _) in cases.items():
        (tmp_path / name).write_bytes(content)
    seen = {name: refused(tmp_path / name).reason for name in cases}
    assert seen == {name: reason for name, (_, reason) in cases.items()}
    assert "The pump runs." in one(tmp_path / "open.pdf").text
    assert refused(good, max_pages=2).detail == "3 > 2 pages"


def _words_of(body: str) -> bytes:
    import io
    import zipfile

    from test_hostile_files import word

    with zipfile.ZipFile(io.BytesIO(word(body))) as file:
        return file.read("word/document.xml")


@installed
def test_models_that_are_not_here_are_exit_code_3(
    tmp_path: Path, use: Use, monkeypatch: pytest.MonkeyPatch
) -> None:
    from docling.datamodel.settings import settings
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    path = write_pdf(tmp_path / "a.pdf", PUMP)
    models = use("")
    cases: list[tuple[Path | None, dict[str, bool]]] = [
        (None, {}),  # neither a folder nor a cache
        (tmp_path / "nowhere", {}),
        (tmp_path, {}),  # a folder without models
        (models, {"tables": True}),  # the table model is missing
        (write_layout_model(tmp_path / "no-ocr"), {"ocr": True}),
    ]
    for folder, keys in cases:
        monkeypatch.setattr(settings, "artifacts_path", folder)
        with pytest.raises(MissingError, match="docling-tools models download") as error:
            found(path, **keys)
        assert error.value.exit_code == 3 and "\n" not in str(error.value)


@installed
def test_from_documents_to_a_search_by_commands(
    llmctl: Any, tmp_path: Path, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spans point into the text, pages are those of the PDF, and stdout holds the result only."""
    from test_hostile_files import saved

    monkeypatch.setenv("DOCLING_ARTIFACTS_PATH", str(write_layout_model(shelf / "plain")))
    docs = tmp_path / "docs"
    docs.mkdir()
    write_pdf(docs / "pump.pdf", PUMP)
    (docs / "good.docx").write_bytes(saved("docx"))
    (docs / "broken.pdf").write_bytes(b"%PDF-1.4 nothing")
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        f"stage: ingest\nsource: {docs}\nout: {tmp_path / 'out'}\nstore: exact\n"
        "readers: [{kind: docling, tables: false, patterns: ['*.pdf', '*.docx']}]\n"
        "embedder: {kind: hashing, dimensions: 64}\nchunker: page\ncleaners: [unicode]\n"
    )
    done = llmctl("ingest", recipe)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "out") and "Loading weights" not in done.stderr

    def rows(name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (tmp_path / "out" / name).open(encoding="utf-8")]

    texts = {row["id"]: row["text"] for row in rows("documents.jsonl")}
    chunks = rows("chunks.jsonl")
    for chunk in chunks:
        assert texts[chunk["document_id"]][chunk["start"] : chunk["end"]] == chunk["text"]
    pages = {c["text"].strip()[:5]: c["meta"].get("page") for c in chunks}
    assert pages == {"The p": 1, "Clean": 3, "Some ": None}
    assert [(r["uri"], r["reason"]) for r in rows("dropped.jsonl")] == [
        ("broken.pdf", "broken_layout")
    ]
    hits = llmctl("search", tmp_path / "out", "clean the filter", "-k", "1", "--json")
    assert hits.returncode == 0 and "Clean the filter each month." in hits.stdout
    again = llmctl("ingest", recipe)
    assert again.returncode == 0 and "up to date" in again.stderr + again.stdout


def test_without_docling_the_extra_is_named(llmctl, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    if not versions({"docling": "layout"})[1]:
        pytest.skip("docling is installed here")
    (tmp_path / "docs").mkdir()
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        f"stage: ingest\nsource: {tmp_path / 'docs'}\nout: {tmp_path / 'out'}\nreaders: [docling]\n"
    )
    done = llmctl("ingest", recipe)
    assert done.returncode == 3
    [line] = done.stderr.strip().splitlines()
    assert "docling" in line and line.endswith("pip install 'llmctl-toolkit[layout]'")
