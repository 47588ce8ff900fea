"""Where each key of an ingest recipe lands."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import source_rows
import store_rows
import stream_rows

BASE: dict[str, Any] = {"source": "docs"}
KINDS: dict[str, dict[str, Any]] = {
    **stream_rows.KINDS,
    **source_rows.KINDS,
    "source[folder]": {"path": "docs"},
    "cleaners[regex]": {"pattern": "a+"},
    "embedder[openai]": {"model": "some", "base_url": "http://some/v1"},
    "chunker[semantic]": {"min_chars": 10, "percentile": 50},
    "metadata.tags": {"pattern": "*", "set": {"product": "x"}},
}


def build(recipe: Any, tmp_path: Path) -> SimpleNamespace:
    """The parts of the recipe, tried on small real text; no model is loaded."""
    from llmctl.rag import reading
    from llmctl.rag.chunkers.base import About
    from llmctl.rag.sources.base import Source

    reader = recipe.readers[0]
    name = reader.patterns[0].replace("*", "file")
    files = tmp_path / "files"
    files.mkdir()
    (files / "bad.md").write_bytes(b"\xff\xfe broken")
    (files / "long.md").write_text("A long line of words. " * 100)
    folder = Source.of(files)
    try:
        reading.read(recipe.model_copy(update={"source": folder, "cleaners": ()}), {})
        ends = "skip"
    except Exception:
        ends = "fail"
    left_out = reading.read(
        recipe.model_copy(update={"source": folder, "on_error": "skip", "cleaners": ()}), {}
    )[1]
    text = ("abcdefghi." if recipe.chunker.kind == "window" else "One. Two three. ") * 300
    return SimpleNamespace(
        recipe=recipe,
        inputs=recipe.inputs(),
        reader=reader,
        takes=name,
        kinds=tuple(each.kind for each in recipe.readers),
        cleaner=recipe.cleaners[0] if recipe.cleaners else None,
        cleaner_kinds=tuple(each.kind for each in recipe.cleaners),
        spans=list(recipe.chunker.split(text, About("a.js", topics)))
        if getattr(recipe.chunker, "unit", "") != "tokens"
        else [],
        chunker=recipe.chunker,
        embedder=recipe.embedder,
        store=recipe.store,
        on_error=ends,
        reasons=[row["reason"] for row in left_out],
    )


def clean(text: str) -> Any:
    return lambda built: built.cleaner.clean(text).text


def indexed(query: str) -> Any:
    """What the keyword index of two texts gives for a question."""

    def where(built: Any) -> list[float]:
        from tempfile import TemporaryDirectory

        from llmctl.rag import keywords

        with TemporaryDirectory() as folder:
            rows = [("a", "filters the filters"), ("b", "a long text about the filter of a pump")]
            keywords.build(Path(folder), rows, built.recipe.keywords)
            return [round(float(each), 3) for each in keywords.open(Path(folder)).scores(query)]

    return where


class FakeModel:
    """What sentence-transformers is given: the calls, not the arithmetic."""

    max_seq_length = 256

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.given: list[Any] = []

    def encode(self, texts: Any, **kwargs: Any) -> Any:
        import numpy as np

        self.given.append((texts, kwargs))
        return np.ones((len(texts), 16))

    def tokenizer(self, texts: list[str], **kwargs: Any) -> dict[str, Any]:
        return {"input_ids": [text.split() for text in texts]}


def embedded(built: SimpleNamespace) -> Any:
    """The embedder with its model library replaced by FakeModel."""
    from unittest import mock

    import numpy  # noqa: F401  (patch.dict would unload it)

    import llmctl.modelref  # noqa: F401

    fake = SimpleNamespace(SentenceTransformer=FakeModel)
    with (
        mock.patch.dict(sys.modules, {"sentence_transformers": fake}),
        mock.patch("llmctl.modelref.hf_folder", Path),
        built.embedder.open() as live,
    ):
        live.texts(["text"])
        live.query("query")
        live.model.dimensions = live.dimensions
    return live.model


def in_onnx(built: SimpleNamespace) -> SimpleNamespace:
    """What an onnx embedder asks of its libraries; nothing is exported."""
    from unittest import mock

    import numpy as np

    seen = SimpleNamespace(texts=[], shapes=[], limit=None, asked=None)

    class Words:
        def no_padding(self) -> None:
            pass

        def enable_truncation(self, limit: int) -> None:
            seen.limit = limit

        def encode_batch_fast(self, texts: list[str]) -> list[Any]:
            seen.texts.append(texts)
            return [SimpleNamespace(ids=[1, 2, 3], overflowing=[]) for _ in texts]

    class Session:
        def run(self, names: None, given: dict[str, Any]) -> list[Any]:
            seen.shapes.append(given["input_ids"].shape)
            return [np.ones((*given["input_ids"].shape, 16), dtype=np.float32)]

    def exported(folder: Path, precision: str) -> Path:
        seen.asked = (folder, precision)
        return folder

    fakes = {
        "onnxruntime": SimpleNamespace(
            SessionOptions=SimpleNamespace, InferenceSession=lambda *a, **k: Session()
        ),
        "tokenizers": SimpleNamespace(Tokenizer=SimpleNamespace(from_file=lambda path: Words())),
    }
    import llmctl.modelref  # noqa: F401
    from llmctl.rag.embedders import onnx

    with TemporaryDirectory() as folder, mock.patch.dict(sys.modules, fakes):
        (Path(folder) / "tokenizer.json").write_text("{}")
        with (
            mock.patch("llmctl.modelref.hf_folder", return_value=Path(folder)),
            mock.patch.object(onnx, "exported", exported),
            built.embedder.open() as live,
        ):
            seen.shapes.clear()
            live.texts(["a", "b", "c"])
            live.texts(["text"])
            live.query("query")
    seen.live, seen.shapes = live, seen.shapes[:-2]
    return seen


def posted(built: SimpleNamespace) -> SimpleNamespace:
    """What an endpoint is asked: the client's settings, the bodies, the vectors' length."""
    import os
    from unittest import mock

    import httpx

    from llmctl.rag.embedders import openai

    seen = SimpleNamespace(bodies=[], urls=[], pool=None)

    class Client:
        def __init__(self, **options: Any) -> None:
            seen.options = options

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *error: object) -> None:
            pass

        def post(self, url: str, json: Any) -> Any:
            seen.urls.append(url)
            seen.bodies.append(json)
            if len(seen.bodies) == 1 or json["input"] != ["fails"]:
                rows = [{"index": i, "embedding": [1.0] * 16} for i in range(len(json["input"]))]
                return SimpleNamespace(status_code=200, json=lambda: {"data": rows})
            return SimpleNamespace(status_code=500, text="", headers={})

    pools: list[int] = []
    pool = openai.ThreadPoolExecutor
    with (
        mock.patch.dict(os.environ, {"LLMCTL_TEST_TOKEN": "t"}),
        mock.patch.object(httpx, "Client", Client),
        mock.patch("time.sleep"),
        mock.patch.object(openai, "ThreadPoolExecutor", lambda n: pools.append(n) or pool(n)),
        built.embedder.open() as live,
    ):
        del seen.bodies[:]
        live.texts(["long enough", "long enough"])
        live.query("query")
        seen.dimensions, seen.pool, seen.calls = live.dimensions, pools[0], len(seen.bodies)
        seen.texts = [each["input"][0] for each in seen.bodies]
        try:
            live.texts(["fails"])
        except Exception:
            seen.tries = len(seen.bodies) - seen.calls
    return seen


def dimensions(built: SimpleNamespace) -> int:
    with built.embedder.open() as live:
        return len(live.query("a word"))


def nested(count: int) -> Any:
    """Blank lines that are left between two words."""
    return lambda built: built.cleaner.clean("a" + "\n" * 9 + "b").text.count("\n") - 1


def max_pages(built: SimpleNamespace) -> int:
    return int(built.reader.max_pages)


def widest(built: SimpleNamespace) -> bool:
    return max(end - start for start, end in built.spans) <= 40


def begins(built: SimpleNamespace) -> int:
    return len(list(built.chunker.split("# a\nx\n## b\ny\n### c\nz\n")))


def parents(built: SimpleNamespace) -> int:
    """Length of the longest parent."""
    text = "One. Two three. " * 300
    return -(-max(p[1] - p[0] for p, _ in built.chunker.families(text)) // 40) * 40


def topics(texts: Any) -> Any:
    """Vectors that turn with the number of a text: steps of different sizes."""
    import numpy as np

    angles = np.array([number**2 % 7 / 2 for number in range(len(texts))])
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def around(built: SimpleNamespace) -> list[str]:
    """What the semantic chunker has embedded."""
    from llmctl.rag.chunkers.base import About

    given: list[str] = []

    def embed(texts: Any) -> Any:
        given.extend(texts)
        return topics(texts)

    list(built.chunker.split("One. Two three. " * 9, About("", embed)))
    return given


def aged(meta: dict[str, Any]) -> Any:
    """Why a document with these fields is dropped."""
    return lambda built: built.cleaner.clean("text", meta).reason


def headed(built: SimpleNamespace) -> str:
    from llmctl.rag.cutting import embedded_text

    meta = {"title": "Title", "headings": ["Heading"]}
    return embedded_text({"text": "text", "meta": meta}, built.recipe)  # type: ignore[typeddict-item]


def described(built: SimpleNamespace) -> dict[str, Any]:
    """Fields of a document at api/a.md."""
    from llmctl.rag.metadata import of_document

    front = {} if built.recipe.metadata.tags else {"author": "Lee", "number": 7}
    return of_document(built.recipe.metadata, "api/a.md", front)[0]


def of_reader(name: str) -> Any:
    """What the reader gives for a small file: "fragment: text" lines, or the reason against it."""

    def read(built: SimpleNamespace) -> Any:
        import json
        import tempfile

        from llmctl.rag.readers.base import Unreadable

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            if name.endswith(".xlsx"):
                import openpyxl

                book = openpyxl.Workbook()
                book.active.title = "S"
                for row in (["a", "b"], [1, 2], [3, 4]):
                    book.active.append(row)
                book.save(path)
            elif name == "o.json":
                path.write_text(json.dumps({"in": [{"x": "y"}]}))
            else:
                path.write_text("a,b\n1,2\n3,4\n" + ("ü\n" if name[0] == "ü" else ""))
            try:
                return [f"{at}: {each.text}" for at, each in built.reader.read_all(path)]
            except Unreadable as error:
                return error.reason

    return read


def slides(built: SimpleNamespace) -> bool:
    import tempfile

    import pptx

    show = pptx.Presentation()
    slide = show.slides.add_slide(show.slide_layouts[0])
    slide.shapes.title.text = "T"
    slide.notes_slide.notes_text_frame.text = "said"
    with tempfile.TemporaryDirectory() as folder:
        show.save(Path(folder) / "a.pptx")
        return "said" in built.reader.read(Path(folder) / "a.pptx").text


def fields_of(built: SimpleNamespace) -> Any:
    """Which key took the field b: the value that the key was given, as the document shows it."""
    owner = built.reader if hasattr(built.reader, "fields") else built.recipe.source
    fragment, parsed = owner.fields.document({"a": "1", "b": "2"}, 1)
    if parsed.text == "2":
        return ("b",)
    if parsed.meta == {"b": "2"}:
        return ("b",)
    return "b" if "2" in (parsed.title, fragment) else None


PAGES = "\f".join(f"A\nB\n{a}{a}{a}\nz\n{b}" for a, b in ("ax", "bx", "cy"))
ENGLISH = "The pump moves water through the filter, and the valve is checked every week. " * 3
E5, PATTERN = "owner/name", ("*.xyz",)
ROWS: dict[str, Any] = {
    "version": None,
    "stage": None,
    "out": None,
    "seed": (7, lambda built: built.recipe.seed),
    "source": ("other", lambda built: str(built.inputs["source"])),
    **source_rows.ROWS,
    "source[folder].path": ("other", lambda built: str(built.inputs["source"])),
    "readers": (["pdf", "text"], lambda built: built.kinds, ("pdf", "text")),
    "readers[markdown].patterns": (PATTERN, lambda built: built.takes, "file.xyz"),
    "readers[html].patterns": (PATTERN, lambda built: built.takes, "file.xyz"),
    "readers[text].patterns": (PATTERN, lambda built: built.takes, "file.xyz"),
    "readers[pdf].patterns": (PATTERN, lambda built: built.takes, "file.xyz"),
    "readers[pdf].max_pages": (3, max_pages),
    **{
        f"readers[{kind}].patterns": (PATTERN, lambda built: built.takes, "file.xyz")
        for kind in (
            "docx", "pptx", "xlsx", "csv", "json", "parquet", "rst", "epub", "email", "code"
        )
    },
    "readers[docling].patterns": (PATTERN, lambda built: built.takes, "file.xyz"),
    "readers[docling].ocr": (True, lambda built: built.reader.settings()["do_ocr"]),
    "readers[docling].tables": (False, lambda built: built.reader.settings()["do_table_structure"]),
    "readers[docling].max_pages": (3, max_pages),
    "readers[pptx].notes": (False, slides),
    "readers[xlsx].per": (
        "row", of_reader("a.xlsx"), ["S!row=2: a: 1\nb: 2", "S!row=3: a: 3\nb: 4"]
    ),
    "readers[xlsx].sheets": (["Z"], of_reader("a.xlsx"), "no_text"),
    "readers[csv].per": ("row", of_reader("a.csv"), ["row=1: a: 1\nb: 2", "row=2: a: 3\nb: 4"]),
    "readers[csv].delimiter": ("2", of_reader("a.csv"), [": a,b: 1,\n\na,b: 3,4"]),
    "readers[csv].encoding": ("ascii", of_reader("ü.csv"), "not_utf8"),
    "readers[json].items": ("in", of_reader("o.json"), ["row=1: x: y"]),
    "readers[code].max_line": (2, of_reader("a.csv"), "generated"),
    **{
        f"{owner}.fields.{key}": (value, fields_of)
        for owner in (
            "readers[xlsx]", "readers[csv]", "readers[json]", "readers[parquet]", "source[sql]"
        )
        for key, value in (("text", ("b",)), ("title", "b"), ("id", "b"), ("meta", ("b",)))
    },
    "max_bytes": (1000, lambda built: built.reasons, ["not_utf8", "too_large"]),
    "cleaners": (["length"], lambda built: built.cleaner_kinds, ("length",)),
    "cleaners[unicode].form": ("NFKC", clean("\ufb01t"), "fit"),
    "cleaners[whitespace].max_blank_lines": (3, nested(3)),
    "cleaners[length].min_chars": (
        99, lambda built: built.cleaner.clean("short").detail, "5 < 99 characters"
    ),
    "keywords.stemmer": ("none", indexed("filters"), [0.444, 0.0]),
    "keywords.stop_words": (["filters"], indexed("filter"), [0.0, 0.204]),
    "keywords.k1": (0.0, indexed("pump"), [0.0, 0.693]),
    "keywords.b": (0.0, indexed("pump"), [0.0, 0.277]),
    "chunker": ("markdown", lambda built: built.chunker.kind),
    "chunker[sentence].max_chars": (40, widest, True),
    "chunker[markdown].max_chars": (40, widest, True),
    "chunker[markdown].level": (1, begins, 1),
    "chunker[window].size": (150, lambda built: built.spans[0][1]),
    "chunker[window].overlap": (
        30, lambda built: 800 - (built.spans[1][0] - built.spans[0][0]), 30
    ),
    "chunker[window].unit": ("tokens", lambda built: "chunker.model" in built.inputs, True),
    "chunker[window].model": (E5, lambda built: built.chunker.model),
    "cleaners[unicode].repair": (False, clean("sch\u00c3\u00b6n"), "sch\u00c3\u00b6n"),
    "cleaners[boilerplate].phrases": (["rate us"], clean("Please rate us!\nx"), "x"),
    "cleaners[boilerplate].builtin": (False, clean("Back to top\nx"), "Back to top\nx"),
    "cleaners[boilerplate].max_line_chars": (
        10, clean("Skip to content\nx"), "Skip to content\nx"
    ),
    "cleaners[headers_footers].lines": (1, clean(PAGES), PAGES.replace("A", "").replace("x", "")),
    "cleaners[headers_footers].share": (0.9, clean(PAGES), re.sub("[ABz]", "", PAGES)),
    "cleaners[headers_footers].min_pages": (4, clean(PAGES), PAGES),
    "cleaners[language].allowed": (
        ["de"], lambda built: built.cleaner.clean(ENGLISH).reason, "language"
    ),
    "cleaners[language].min_confidence": (
        0.01, lambda built: built.cleaner.clean("Hallo Welt").meta, {"language": "de"}
    ),
    "cleaners[language].max_chars": (
        100, lambda built: len(built.cleaner._sample("x" * 30_000)), 109
    ),
    "cleaners[personal_data].types": (
        ["phone"], clean("a@b.de, tel. 030 1234567"), "a@b.de, tel. [PHONE]"
    ),
    "cleaners[personal_data].action": (
        "drop", lambda built: built.cleaner.clean("a@b.de").reason, "personal_data"
    ),
    "cleaners[dates].field": ("sent", aged({"sent": "1969-01-01"}), "out_of_date"),
    "cleaners[dates].newer_than": ("2024-01-01", aged({"date": "2023-01-01"}), "out_of_date"),
    "cleaners[dates].undated": ("drop", aged({}), "undated"),
    "cleaners[regex].pattern": ("b+", clean("aabb"), "aa"),
    "cleaners[regex].replacement": ("x", clean("aabb"), "xbb"),
    "chunker[code].max_chars": (40, widest, True),
    "chunker[code].language": (
        "python", lambda built: len(built.chunker._levels("if a:\n  b\nc\n", "a.js")[0]), 2
    ),
    "chunker[page].max_chars": (40, widest, True),
    "chunker[recursive].size": (40, widest, True),
    "chunker[recursive].separators": (
        ["Two"], lambda built: built.spans[0][1], len("One. Two three. " * 49 + "One. Two")
    ),
    "chunker[recursive].unit": ("tokens", lambda built: "chunker.model" in built.inputs, True),
    "chunker[recursive].model": (E5, lambda built: built.chunker.model),
    "chunker[semantic].percentile": (99, lambda built: len(built.spans) < 20, True),
    "chunker[semantic].neighbours": (0, lambda built: len(around(built)[0]), len("One. ")),
    "chunker[semantic].min_chars": (1000, lambda built: built.spans[0][1] > 999, True),
    "chunker[semantic].max_chars": (
        12, lambda built: max(b - a for a, b in built.spans) <= 12, True
    ),
    "chunker[small_to_big].small": (
        {"kind": "sentence", "max_chars": 40}, widest, True
    ),
    "chunker[small_to_big].big": ({"kind": "sentence", "max_chars": 40}, parents, 40),
    "header": ("title", headed, "Title\ntext"),
    "metadata.tags.pattern": ("docs/*", described, {}),
    "metadata.tags.set": ({"product": "api"}, described, {"product": "api"}),
    "metadata.fields": (["author"], described, {"author": "Lee"}),
    "metadata.types": ({"number": "string"}, lambda built: described(built)["number"], "7"),
    "metadata.external_id": (
        "number", lambda built: described(built).get("external_id"), "7"
    ),
    "embedder": (
        {"kind": "sentence_transformers", "model": E5}, lambda built: built.embedder.model, E5
    ),
    "embedder[sentence_transformers].model": (E5, lambda built: built.inputs["embedder.model"]),
    "embedder[sentence_transformers].batch_size": (
        5, lambda built: embedded(built).given[-1][1]["batch_size"]
    ),
    "embedder[sentence_transformers].max_tokens": (
        9, lambda built: embedded(built).max_seq_length
    ),
    "embedder[sentence_transformers].text_prefix": (
        "passage: ", lambda built: embedded(built).given[-2][1]["prompt"]
    ),
    "embedder[sentence_transformers].query_prefix": (
        "query: ", lambda built: embedded(built).given[-1][1]["prompt"]
    ),
    "embedder[sentence_transformers].dimensions": (8, lambda built: embedded(built).dimensions),
    "embedder[hashing].dimensions": (16, dimensions),
    "embedder[openai].model": ("other", lambda built: posted(built).bodies[0]["model"]),
    "embedder[openai].base_url": (
        "http://other/v1", lambda built: posted(built).urls[0], "http://other/v1/embeddings"
    ),
    "embedder[openai].api_key_env": (
        "LLMCTL_TEST_TOKEN", lambda built: posted(built).options["headers"],
        {"Authorization": "Bearer t"},
    ),
    "embedder[openai].batch_size": (1, lambda built: posted(built).calls, 3),
    "embedder[openai].concurrency": (3, lambda built: posted(built).pool),
    "embedder[openai].timeout": (5.0, lambda built: posted(built).options["timeout"]),
    "embedder[openai].retries": (2, lambda built: posted(built).tries, 3),
    "embedder[openai].max_chars": (8, lambda built: posted(built).texts[0], "long eno"),
    "embedder[openai].dimensions": (8, lambda built: posted(built).dimensions),
    "embedder[openai].send_dimensions": (
        True, lambda built: "dimensions" in posted(built).bodies[0]
    ),
    "embedder[openai].text_prefix": (
        "passage: ", lambda built: posted(built).texts[0], "passage: long enough"
    ),
    "embedder[openai].query_prefix": (
        "query: ", lambda built: posted(built).texts[-1], "query: query"
    ),
    "embedder[onnx].model": (E5, lambda built: built.inputs["embedder.model"]),
    "embedder[onnx].precision": ("int8", lambda built: in_onnx(built).asked[1]),
    "embedder[onnx].batch_tokens": (4, lambda built: in_onnx(built).shapes, [(1, 3)] * 3),
    "embedder[onnx].max_tokens": (8, lambda built: in_onnx(built).limit),
    "embedder[onnx].dimensions": (8, lambda built: in_onnx(built).live.dimensions),
    "embedder[onnx].text_prefix": (
        "passage: ", lambda built: in_onnx(built).texts[-2], ["passage: text"]
    ),
    "embedder[onnx].query_prefix": (
        "query: ", lambda built: in_onnx(built).texts[-1], ["query: query"]
    ),
    "store": (
        {"kind": "chroma", "max_neighbors": 9}, store_rows.hnsw("max_neighbors"), 9
    ),
    **stream_rows.ROWS,
    **store_rows.ROWS,
    "on_error": ("fail", lambda built: built.on_error),
}  # fmt: skip
