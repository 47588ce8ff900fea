"""What is shown of the first rows: every token once, the learnt ones marked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl")
from tiny_tokenizer import tiny_tokenizer

from llmctl.report.html import Report
from llmctl.training import preference, xray
from llmctl.training.preference import LabelledTokens

TOKENIZER = tiny_tokenizer()


def pair(number: int, **changed: Any) -> preference.PairTokens:
    turns = {"prompt": f"q{number}", "chosen": "yes", "rejected": "never", **changed}
    row = {
        name: [{"role": "user" if name == "prompt" else "assistant", "content": content}]
        for name, content in turns.items()
    }
    return preference.tokens_of(TOKENIZER, {"id": f"r{number}", **row}, "here")


def learnt(pieces: xray.Pieces) -> str:
    return "".join(text.strip() for text, kind in pieces if kind == "trained")


def test_several_pairs_stand_side_by_side_with_what_is_learnt(
    capsys: pytest.CaptureFixture[str],
) -> None:
    shown = xray.show_answers(TOKENIZER, [pair(n) for n in range(5)], 512)
    assert shown[0].title == ("pair r0, prompt 21 tokens, chosen 5 learnt, rejected 7 learnt")
    assert len(shown) == xray.ROWS
    for each in shown:
        assert list(each.texts) == ["prompt", "chosen", "rejected"]
        assert learnt(each.texts["prompt"]) == ""
        assert learnt(each.texts["chosen"]) == "yes<|im_end|>"
        assert learnt(each.texts["rejected"]) == "never<|im_end|>"
    printed = capsys.readouterr().err.replace(" ", "")
    assert printed.count("chosen:[[yes<|im_end|>") == printed.count("rejected:[[never<|") == 3
    page = Report("t")
    page.token_rows("first", [(each.title, each.texts) for each in shown])
    assert page.html().count('<div class="row"><div>prompt<p class="tokens">') == 3
    assert page.html().count("<div>rejected<p") == 3


def test_an_answer_is_shown_as_far_as_it_is_trained_on() -> None:
    found = xray.answered(TOKENIZER, pair(1), 24)
    assert learnt(found.texts["chosen"]) == "yes" and learnt(found.texts["rejected"]) == "nev"


@pytest.mark.parametrize("good", [True, False])
def test_a_labelled_answer_tells_its_label(good: bool) -> None:
    whole = pair(1)
    found = xray.answered(TOKENIZER, LabelledTokens("a", whole.prompt, whole.chosen, good), 512)
    name = "good answer" if good else "bad answer"
    assert list(found.texts) == ["prompt", name]
    assert found.title == f"row a, prompt 21 tokens, {name} 5 learnt"


@pytest.mark.model
@pytest.mark.parametrize("text", ["Café Ωmega 🤖🔧 in  two\n\tlines.", " leading", "日本語 ok"])
def test_pieces_are_the_text_also_of_characters_of_several_tokens(
    tiny_model: Path, text: str
) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    ids = tokenizer(text).input_ids
    pieces = xray.pieces_of(tokenizer, ids)
    assert "".join(pieces) == text and len(pieces) == len(ids)
