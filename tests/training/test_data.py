"""The mask, the splits and the length policy, on a tokenizer of single characters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl")
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_tokenizer import TEMPLATE, tiny_tokenizer

from llmctl.artifact import Artifact
from llmctl.errors import InputError
from llmctl.schema.parts import TrainData
from llmctl.training import data, preference, sources, xray

TOKENIZER = tiny_tokenizer()
words = st.text(alphabet=st.sampled_from("ab .\n<|"), min_size=1, max_size=12)


def messages(*contents: str) -> list[dict[str, Any]]:
    roles = ("user", "assistant")
    return [{"role": roles[i % 2], "content": c} for i, c in enumerate(contents)]


@settings(max_examples=60)
@given(st.lists(words, min_size=2, max_size=6).filter(lambda c: len(c) % 2 == 0))
def test_exactly_the_answers_and_their_end_of_turn_are_trained(
    contents: list[str],
) -> None:
    row = data.tokens_of(TOKENIZER, {"messages": messages(*contents)}, "here", "assistant")
    pieces = xray.classes(row, set(TOKENIZER.all_special_ids))
    learnt = "".join(text for text, name in pieces if name == "trained")
    assert learnt == "".join(c + "<|im_end|>" for c in contents[1::2])
    assert "".join(row.pieces) == data.render(TOKENIZER, messages(*contents))


def test_ids_are_those_of_the_chat_template() -> None:
    row = {"messages": messages("hello", "hi", "and?", "so")}
    found = data.tokens_of(TOKENIZER, row, "here", "assistant")
    theirs = TOKENIZER.apply_chat_template(row["messages"], return_dict=True)["input_ids"]
    assert found.ids == list(theirs)


def test_pad_is_eos_and_the_end_of_turn_is_learnt_all_the_same() -> None:
    row = data.tokens_of(TOKENIZER, {"messages": messages("q", "a")}, "here", "assistant")
    assert TOKENIZER.pad_token_id == TOKENIZER.eos_token_id
    assert row.labels.count(TOKENIZER.eos_token_id) == 1


def test_raw_text_is_learnt_whole_and_ends() -> None:
    row = data.tokens_of(TOKENIZER, {"text": "abc"}, "here", "assistant")
    assert all(row.trained) and row.ids[-1] == TOKENIZER.eos_token_id


def test_a_template_without_end_of_turn_is_refused() -> None:
    plain = tiny_tokenizer(
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    with pytest.raises(InputError, match="would not learn to stop"):
        data.tokens_of(plain, {"messages": messages("q", "a")}, "f:1", "assistant")


def test_a_template_that_rewrites_old_turns_is_refused() -> None:
    last_only = tiny_tokenizer(
        TEMPLATE.replace(
            "{{ m['content'] }}",
            "{{ m['content'] if loop.last or m['role'] == 'user' else 'x' }}",
        )
    )
    with pytest.raises(InputError, match="f:1: the chat template writes turn 1 differently"):
        data.tokens_of(last_only, {"messages": messages("q", "a", "r", "b")}, "f:1", "assistant")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (
            {"messages": [{"role": "assistant", "content": "a"}]},
            "begins with the assistant",
        ),
        ({"messages": [{"role": "bot", "content": "a"}]}, "no role named 'bot'"),
        ({"prompt": "a"}, "an example has `messages`"),
    ],
)
def test_wrong_rows_are_named(row: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        data.tokens_of(TOKENIZER, row, "f.jsonl:3", "assistant")


def test_a_model_without_template_is_refused() -> None:
    with pytest.raises(InputError, match="no chat template"):
        data.check_template(tiny_tokenizer(None), "some/model")


def test_long_rows_are_dropped_or_cut_and_counted() -> None:
    row = data.tokens_of(TOKENIZER, {"messages": messages("q", "a" * 50)}, "here", "assistant")
    kept, dropped, cut = data.shortened([row], 40, "drop")
    assert (kept, cut, dropped[0]["reason"]) == ([], 0, "too_long")
    kept, dropped, cut = data.shortened([row], 40, "truncate")
    assert (len(kept[0].ids), cut, dropped) == (40, 1, [])
    _, dropped, _ = data.shortened([row], 16, "truncate")  # the cut leaves the prompt alone
    assert dropped[0]["reason"] == "no_trained_tokens"


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_test_split_is_measured_before_the_validation_split(tmp_path: Path) -> None:
    folder = tmp_path / "ds"
    for name in ("train", "validation", "test"):
        write(folder / f"{name}.jsonl", [{"text": f"{name} {i}"} for i in range(4)])
    _, held = sources.split(TrainData(train=folder), 1, Artifact(tmp_path))
    assert held[0][1]["text"] == "test 0"
    (folder / "test.jsonl").unlink()
    _, held = sources.split(TrainData(train=folder), 1, Artifact(tmp_path))
    assert held[0][1]["text"] == "validation 0"


def test_held_out_rows_never_train(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = write(tmp_path / "t.jsonl", [{"id": str(i), "text": f"row {i}"} for i in range(10)])
    held = write(tmp_path / "v.jsonl", [{"id": "x", "text": "row 3"}])
    artifact = Artifact(tmp_path)
    rows, _ = sources.streams(TrainData(train=train, validation=held), 1, artifact)
    assert len(rows) == len([*rows]) == 9 and artifact.dropped["in_held_out"] == 1
    assert f"1 rows are held out too and not learnt from: {train}:4" in capsys.readouterr().err
    rows, back = sources.split(TrainData(train=train, hold_out=0.3), 1, artifact)
    assert len(back) == 3 and not {r["id"] for _, r in rows} & {r["id"] for _, r in back}


def test_rows_of_other_tools_are_learnt_from(tmp_path: Path) -> None:
    alpaca = [{"instruction": f"q{i}", "output": f"a{i}"} for i in range(5)]
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(alpaca))
    artifact = Artifact(tmp_path)
    rows, held = sources.split(TrainData(train=path), 1, artifact)
    assert len(rows) == 4 and len(held) == 1
    where, row = rows[0]
    found = data.tokens_of(TOKENIZER, row, where, "assistant")
    assert found.targets == len(row["messages"][1]["content"]) + 1
    assert artifact.extra["formats"][str(path)]["format"] == "alpaca"
    table = tmp_path / "t.csv"
    table.write_text("q,a\nwarm?,yes\ncold?,\n")
    columns = {"kind": "columns", "user": "q", "assistant": "a"}
    rows, _ = sources.split(TrainData(train=table, format=columns, hold_out=0), 1, artifact)  # type: ignore[arg-type]
    assert [row["messages"][0]["content"] for _, row in rows] == ["warm?"]
    assert artifact.dropped["empty_cell"] == 1


def pair(**changed: Any) -> dict[str, Any]:
    row = {
        "prompt": messages("q"),
        "chosen": [{"role": "assistant", "content": "good"}],
        "rejected": [{"role": "assistant", "content": "bad"}],
    }
    return row | changed


def test_a_pair_is_one_prompt_and_two_whole_answers() -> None:
    found = preference.tokens_of(TOKENIZER, pair(), "here")
    assert TOKENIZER.decode(found.prompt).replace(" ", "").endswith("assistant\n")
    for ids in (found.chosen, found.rejected):
        assert TOKENIZER.eos_token_id in ids


def test_preference_counts_whole_answers_and_tokens_apart() -> None:
    before = [(-10.0, 10, -5.0, 1)]  # the better answer is longer and likelier per token
    assert preference.preferred_sum(before) == [0.0]
    assert preference.preferred_per_token(before) == [1.0]
    after = [(-4.0, 10, -5.0, 1)]
    found = preference.compare(before * 2, after * 2, beta=0.1)
    assert found["preference_sum_diff"].value == 1
    assert found["reward_margin"].value == pytest.approx(0.1 * 6)


def test_a_prompt_has_the_tokens_that_it_will_have_when_it_is_asked(smollm: Path) -> None:
    """Two newlines before a word are two tokens in this tokenizer, and one at the end of a text."""
    from transformers import AutoTokenizer

    from llmctl import templates

    tokenizer = AutoTokenizer.from_pretrained(smollm)
    tokenizer.chat_template = templates.find("llama3").text.replace("<|eot_id|>", "<|im_end|>")
    row = {"messages": messages("q", "a", "r", "b")}
    asked = tokenizer.apply_chat_template(
        row["messages"][:-1], add_generation_prompt=True, return_dict=True
    )["input_ids"]
    found = data.tokens_of(tokenizer, row, "f", "last")
    whole = tokenizer.apply_chat_template(row["messages"], return_dict=True)["input_ids"]
    assert whole[: len(asked)] != asked  # so it is worth a test
    assert found.ids[: len(asked)] == asked
    assert tokenizer.decode(found.ids) == tokenizer.decode(whole)
    assert found.trained == [False] * len(asked) + [True] * (len(found.ids) - len(asked))
