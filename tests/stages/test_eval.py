"""eval on real files: equal to lm-eval, paired, resumable, and a gate that is not forgotten."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
import yaml

from llmctl.engines.transformers import TransformersEngine
from llmctl.evaluation.tasks.base import Item, Scored
from llmctl.schema.base import schema_of
from llmctl.stages import eval as stage

pytestmark = pytest.mark.model
SAMPLES = Path(__file__).parents[2] / "recipes" / "samples"
CHAT = {"kind": "loss", "data": str(SAMPLES / "chat.jsonl")}


def written(folder: Path, **keys: Any) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({"stage": "eval", "out": str(folder / "out"), **keys}))
    return path


def recipe_of(**keys: Any) -> Any:
    return schema_of("eval").model_validate({"stage": "eval", "out": "out", **keys})


@pytest.fixture(scope="module")
def session(tiny_model: Path) -> Iterator[Any]:
    with TransformersEngine(model=str(tiny_model)).start() as opened:
        yield opened


@pytest.fixture(scope="module")
def shifted(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with a little noise: another model with the same tokenizer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path_factory.mktemp("shifted") / "model"
    model: Any = AutoModelForCausalLM.from_pretrained(tiny_model)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.05 * torch.randn_like(weight)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(folder)
    return folder


def test_choices_are_those_of_lm_eval(
    session: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("lm_eval")
    import gzip

    monkeypatch.chdir(tmp_path)
    Path("work").mkdir()
    before = sorted((SAMPLES / "benchmarks").rglob("*"))

    [theirs] = recipe_of(
        model="m",
        tasks=[{"kind": "lm_eval", "task": "arc_easy", "data": str(SAMPLES / "benchmarks")}],
    ).tasks
    items = theirs.items(tmp_path, 12, 42)
    expected = list(theirs.score(session, items, Path("work")))
    assert (tmp_path / "work" / "requests_rank0.db").is_file()
    assert sorted((SAMPLES / "benchmarks").rglob("*")) == before, "an input is only read"

    file = SAMPLES / "benchmarks" / "allenai" / "ai2_arc" / "easy.jsonl.gz"
    with gzip.open(file) as lines:
        rows = [json.loads(line) for line in lines]
    mine = []
    for item in items:
        row = rows[item.data["doc"]]
        answer = row["choices"]["label"].index(row["answerKey"])
        mine.append(
            {"question": row["question"], "choices": row["choices"]["text"], "answer": answer}
        )
    data = tmp_path / "arc.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in mine))
    [ours] = recipe_of(model="m", tasks=[{"kind": "choice", "data": str(data)}]).tasks
    found = list(ours.score(session, ours.items(tmp_path, None, 0), tmp_path))
    assert [f.values["accuracy"] for f in found] == [e.values["acc"] for e in expected]
    assert len({f.values["accuracy"] for f in found}) == 2, "some right, some wrong"


def test_a_loss_is_the_models_own(session: Any, tmp_path: Path) -> None:
    [task] = recipe_of(model="m", tasks=[CHAT | {"loss_on": "all"}]).tasks
    [item] = task.items(tmp_path, 1, 42)
    [found] = task.score(session, [item], tmp_path)
    text = session.tokenizer.apply_chat_template(item.data["messages"], tokenize=False)
    ids = torch.tensor([session.tokenizer(text, add_special_tokens=False).input_ids])
    with torch.inference_mode():
        expected = float(session.model(ids, labels=ids).loss)
    assert found.values["loss"] == pytest.approx(expected, rel=1e-5)
    assert found.weights["loss"] == ids.shape[1] - 1


def test_written_answers_are_compared_word_by_word(tmp_path: Path) -> None:
    [task] = recipe_of(
        model="m",
        tasks=[
            {"kind": "generate", "data": str(SAMPLES / "questions.jsonl"), "extract": r"is (.*)"}
        ],
    ).tasks

    class Answers:
        """Says what it is told to say."""

        model = type("M", (), {"config": None})
        replies = iter(["It is the Paris!", "no idea", "It is Mercury, the planet"])

        def prompt_ids(self, request: Any) -> Any:
            return torch.zeros(1, 4)

        def chat(self, messages: Any, **options: Any) -> Any:
            return type("R", (), {"text": next(self.replies)})

    rows = [
        {"prompt": "?", "answer": ["Paris", "Lutetia"]},
        {"prompt": "?", "answer": "Berlin"},
        {"prompt": [{"role": "user", "content": "?"}], "answer": "mercury"},
    ]
    items = [Item(str(n), f"f:{n}", row) for n, row in enumerate(rows)]
    one, two, three = task.score(Answers(), items, tmp_path)
    assert one.values == {"exact": 1.0, "contains": 1.0, "f1": 1.0}
    assert two.values == {"exact": 0.0, "contains": 0.0, "f1": 0.0}
    assert three.values == {"exact": 0.0, "contains": 1.0, "f1": pytest.approx(2 / 3)}


def test_two_models_are_compared_on_the_same_items(
    llmctl: Any, tiny_model: Path, shifted: Path, tmp_path: Path
) -> None:
    recipe = written(
        tmp_path,
        model=str(shifted),
        baseline=str(tiny_model),
        limit=10,
        tasks=[
            CHAT,
            {"kind": "preference", "data": str(SAMPLES / "pairs.jsonl")},
            {"kind": "perplexity", "data": str(SAMPLES / "docs" / "heat-pump.md"), "block": 200,
             "window": 32, "stride": 16},
        ],
        gate=[{"metric": "loss.loss", "max": 20}, {"metric": "loss.loss", "max_drop": 5}],
    )  # fmt: skip
    done = llmctl("eval", recipe)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{tmp_path / 'out'}\n"
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    loss = results["tasks"]["loss"]["metrics"]["loss"]
    assert loss["model"]["n"] == loss["difference"]["n"] == 10
    difference = loss["model"]["value"] - loss["baseline"]["value"]
    assert loss["difference"]["value"] == pytest.approx(difference)
    assert 0 < loss["difference"]["se"] < 1
    assert [gate["verdict"] for gate in results["gate"]] == ["passed", "passed"]
    rows = [json.loads(line) for line in (tmp_path / "out" / "samples.jsonl").open()]
    assert [row["task"] for row in rows].count("loss") == 10
    assert all({"model", "baseline"} <= set(row) for row in rows)
    suites = ElementTree.parse(tmp_path / "out" / "junit.xml").getroot()
    assert [int(suite.attrib["tests"]) for suite in suites] == [2, 3]
    assert not list(suites.iter("failure")) and not list(suites.iter("error"))

    before = (tmp_path / "out" / "results.json").read_bytes()
    assert llmctl("eval", recipe, "--force", "-q").returncode == 0
    assert (tmp_path / "out" / "results.json").read_bytes() == before


def test_a_failed_gate_is_remembered(llmctl: Any, tiny_model: Path, tmp_path: Path) -> None:
    recipe = written(
        tmp_path,
        model=str(tiny_model),
        tasks=[CHAT],
        gate=[{"metric": "loss.loss", "max": 0.5}],
    )
    done = llmctl("eval", recipe, "-q")
    assert done.returncode == 4
    assert done.stderr.startswith(f"{tmp_path / 'out'}: gate failed: loss.loss <= 0.5")
    assert len(done.stderr.splitlines()) == 1
    failure = ElementTree.parse(tmp_path / "out" / "junit.xml").find(".//failure")
    assert failure is not None and "interval" in failure.attrib["message"]
    assert "failed" in (tmp_path / "out" / "report.html").read_text()
    again = llmctl("eval", recipe)
    assert again.returncode == 4
    assert "up to date" in again.stderr and "gate failed" in again.stderr


def test_what_cannot_be_measured_is_counted_and_stops_a_pipeline(
    llmctl: Any, tiny_model: Path, tmp_path: Path
) -> None:
    lines = (SAMPLES / "chat.jsonl").read_text().splitlines()[:3]
    long = json.loads(lines[0])
    long["messages"][1]["content"] = "word " * 3000
    data = tmp_path / "rows.jsonl"
    data.write_text("\n".join([*lines[1:], json.dumps(long)]) + "\n")
    recipe = written(tmp_path, model=str(tiny_model), tasks=[{"kind": "loss", "data": str(data)}])
    done = llmctl("eval", recipe)
    assert done.returncode == 5
    assert "loss: 1 of 3 items are unmeasured" in done.stderr
    assert "the model has 2048 positions" in done.stderr
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["tasks"]["loss"]["unmeasured"] == 1
    assert results["tasks"]["loss"]["metrics"]["loss"]["model"]["n"] == 2
    assert llmctl("eval", recipe, "--set", "max_unmeasured=0.5").returncode == 0


def test_a_killed_run_measures_no_item_twice(session: Any, tmp_path: Path) -> None:
    [task] = recipe_of(model="m", tasks=[CHAT]).tasks

    class Interrupted:
        """The task, stopped by a signal after five items."""

        title = task.title
        asked = 0

        def score(self, session: Any, items: Any, work: Path) -> Iterator[Scored]:
            for item in items:
                if self.asked == 5:
                    raise KeyboardInterrupt
                self.asked += 1
                yield from task.score(session, [item], work)

    result = stage.Result(Interrupted(), task.items(tmp_path, None, 42))  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        stage._score(result, "model", session, tmp_path)
    kept = tmp_path / "model-loss" / "scored.jsonl"
    kept.write_bytes(kept.read_bytes()[:-7])  # the fifth line was cut by the kill
    result.task.asked = -100  # type: ignore[attr-defined]
    found = stage._score(result, "model", session, tmp_path)
    assert result.task.asked == -100 + len(result.items) - 4  # type: ignore[attr-defined]
    fresh = list(task.score(session, result.items, tmp_path))
    assert [f.values for f in found] == [f.values for f in fresh]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"tasks": [CHAT, CHAT]}, "two tasks are named 'loss'"),
        ({"tasks": [CHAT], "gate": [{"metric": "los.loss", "max": 1}]}, "did you mean 'loss'"),
        ({"tasks": [CHAT], "gate": [{"metric": "loss.acc", "max": 1}]}, "it measures loss"),
        ({"tasks": [CHAT], "gate": [{"metric": "loss.loss"}]}, "give min, max, better"),
        ({"tasks": [CHAT], "gate": [{"metric": "loss.loss", "better": True}]}, "give `baseline`"),
        ({"tasks": [{"kind": "los", "data": "x"}]}, "did you mean 'loss'"),
        ({"tasks": []}, "at least 1 needed, found 0"),
        ({"tasks": [CHAT | {"data": "nowhere.jsonl"}]}, "nowhere.jsonl is not there"),
    ],
)
def test_a_wrong_recipe_is_one_line(
    llmctl: Any, tiny_model: Path, tmp_path: Path, keys: dict[str, Any], message: str
) -> None:
    done = llmctl("eval", written(tmp_path, model=str(tiny_model), **keys))
    assert done.returncode == 2
    assert message in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("kind", "row", "message"),
    [
        ("choice", {"question": "?", "choices": ["a", "b"], "answer": "c"}, "'c' is not an option"),
        ("choice", {"question": "?", "answer": 0}, "has no `choices`"),
        ("choice", {"question": "?", "choices": ["a"], "answer": 0}, "at least two"),
        ("generate", {"prompt": "?"}, "has no `answer`"),
        ("generate", {"messages": [{"role": "user", "content": "?"}]}, "must end with the assist"),
        ("loss", {"prompt": "?"}, "an example has `messages`"),
        (
            "preference",
            {"prompt": "?", "chosen": [], "rejected": []},
            "`prompt` must be a non-empty list",
        ),
        ("loss", None, "has no rows to measure with"),
    ],
)
def test_a_wrong_row_is_named(
    llmctl: Any, tiny_model: Path, tmp_path: Path, kind: str, row: Any, message: str
) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text(json.dumps(row) + "\n" if row else "")
    task = {"kind": kind, "data": str(data)}
    done = llmctl("eval", written(tmp_path, model=str(tiny_model), tasks=[task]), "-q")
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"{data}:1: " if row else str(data))
    assert message in done.stderr and len(done.stderr.splitlines()) == 1


def test_an_unknown_benchmark_is_named(tmp_path: Path) -> None:
    pytest.importorskip("lm_eval")
    from llmctl.errors import InputError

    data = str(SAMPLES / "benchmarks")
    [task] = recipe_of(
        model="m", tasks=[{"kind": "lm_eval", "task": "arc_challenge", "data": data}]
    ).tasks
    with pytest.raises(InputError, match="arc_challenge: its data cannot be read from"):
        task.items(tmp_path, None, 0)


def test_contamination_is_told_through_the_lineage(
    llmctl: Any, tiny_model: Path, tmp_path: Path
) -> None:
    """dedup finds an item of the benchmark in the data; eval of the tuned model says so."""
    rows = [json.loads(line) for line in (SAMPLES / "chat.jsonl").open()]
    question = json.loads((SAMPLES / "choice.jsonl").read_text().splitlines()[0])["question"]
    rows[0]["messages"][0]["content"] = f"Tell me: {question}"
    (tmp_path / "chat.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    choice = str(SAMPLES / "choice.jsonl")
    recipes = {
        "dedup": {"data": str(tmp_path / "chat.jsonl"), "decontaminate": {"benchmarks": [choice]}},
        "sft": {
            "model": str(tiny_model), "data": {"train": str(tmp_path / "dedup")},
            "max_steps": 1, "max_length": 64,
        },
        "eval": {
            "model": str(tmp_path / "sft"), "limit": 4,
            "tasks": [{"kind": "choice", "data": choice},
                      {"kind": "loss", "data": str(SAMPLES / "chat.jsonl")}],
        },
    }  # fmt: skip
    for name, keys in recipes.items():
        path = tmp_path / f"{name}.yaml"
        path.write_text(json.dumps({"stage": name, "out": str(tmp_path / name), **keys}))
        done = llmctl(name, path)
        assert done.returncode == 0, done.stderr
    assert "1 of 16 items found in the training data: 1 rows dropped" in done.stderr
    tasks = json.loads((tmp_path / "eval" / "results.json").read_text())["tasks"]
    assert tasks["choice"]["contamination"] == {
        "items": 16, "items_found": 1, "rows_dropped": 1, "rows_flagged": 0,
    }  # fmt: skip
    assert tasks["loss"]["contamination"] is None
    page = (tmp_path / "eval" / "report.html").read_text()
    assert "not searched for in the training data" in page
