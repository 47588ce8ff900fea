"""The reader docling on files that need none of its models, where docling is installed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from llmctl.errors import MissingError
from llmctl.rag.readers.base import Reader, Unreadable
from llmctl.runner import versions

docx = pytest.importorskip("docx")
installed = pytest.mark.skipif(find_spec("docling") is None, reason="needs the extra layout")


@installed
def test_word_through_docling(tmp_path: Path) -> None:
    document = docx.Document()
    document.add_heading("Manual", 0)
    document.add_heading("Part_one <b>", 1)
    document.add_paragraph("Some words.")
    document.save(tmp_path / "a.docx")
    found = Reader.of({"kind": "docling", "patterns": ["*.docx"]}).read(tmp_path / "a.docx")
    assert found.title == "Manual" and found.headed and not found.paged
    assert "## Part_one <b>\n\nSome words." in found.text


@installed
def test_broken_files_are_one_reason(tmp_path: Path) -> None:
    reader = Reader.of("docling")
    for name, data, reason in (
        ("a.pdf", b"%PDF-1.4 nothing", "broken_layout"),
        ("b.docx", b"words", "broken_package"),
        ("c.html", b"", "empty"),
        ("d.xyz", b"words", "broken_layout"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(Unreadable) as error:
            reader.read(tmp_path / name)
        assert error.value.reason == reason and "\n" not in error.value.detail


@installed
def test_models_that_are_not_here_are_exit_code_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants
    from tiny_pdf import write_pdf

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    path = write_pdf(tmp_path / "a.pdf", [["words"]])
    with pytest.raises(MissingError, match="docling-tools models download"):
        Reader.of("docling").read(path)


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
