"""One conversation has one sequence of tokens: in training, in the saved model, in GGUF, in serve.

`bench/parity.py` compares all templates on 30 conversations; here are some of each.
"""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("trl")
pytest.importorskip("xllamacpp")
pytest.importorskip("llama_cpp")
pytestmark = pytest.mark.model

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def parity() -> ModuleType:
    spec = spec_from_file_location("parity", ROOT / "bench" / "parity.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("family", ["llama3", "mistral"])
def test_tokens_are_the_same_everywhere(family: str, parity: ModuleType, tmp_path: Path) -> None:
    talks = parity.conversations()[4:11]
    source = parity.base(tmp_path / "base")
    assert list(parity.differences(source, family, tmp_path / "out", talks)) == []


def test_a_difference_is_seen(
    parity: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What serves has another template than what was trained."""
    from llmctl.quantizers import _gguf_writer

    write = _gguf_writer.write

    def other(folder: Path, *rest: object, **keys: object) -> None:
        template = folder / "chat_template.jinja"
        kept = template.read_text()
        template.write_text(kept.replace("user", "person").replace("message['role']", "'person'"))
        write(folder, *rest, **keys)  # type: ignore[arg-type]
        template.write_text(kept)

    monkeypatch.setattr(_gguf_writer, "write", other)
    source = parity.base(tmp_path / "base")
    found = list(parity.differences(source, "chatml", tmp_path / "out", parity.conversations(1)))
    assert len(found) == 1 and "llama.cpp writes" in found[0]
