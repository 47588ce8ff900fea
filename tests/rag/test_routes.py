"""Several stores behind one recipe: which one a question goes to, or none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("Stemmer")

from llmctl.engines.base import Reply, Session
from llmctl.errors import InputError
from llmctl.rag.retrieve import Retriever, opened
from llmctl.runner import Options
from llmctl.runner import run as run_recipe
from llmctl.schema.ask import AskRecipe
from llmctl.schema.retrieve import Retrieve

MANUAL = {"pump.md": "# Pump\n\nThe filter of the heat pump is cleaned every month.\n"}
TICKETS = {"t1.md": "# Ticket 1\n\nTicket 1: the screen of the heat pump stays black.\n"}
ABOUT_MANUAL = ["how is the filter of the heat pump cleaned"]
ABOUT_TICKETS = ["ticket about a black screen of a customer"]


def ingested(folder: Path, documents: dict[str, str], dimensions: int) -> Path:
    docs = folder / "docs"
    docs.mkdir(parents=True)
    for name, text in documents.items():
        (docs / name).write_text(text)
    recipe = {
        "stage": "ingest", "source": str(docs), "out": str(folder / "out"), "store": "exact",
        "embedder": {"kind": "hashing", "dimensions": dimensions},
    }  # fmt: skip
    (folder / "ingest.yaml").write_text(json.dumps(recipe))
    run_recipe("ingest", folder / "ingest.yaml", Options())
    return folder / "out"


@pytest.fixture(scope="module")
def tickets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ingested(tmp_path_factory.mktemp("tickets"), TICKETS, 128)


@pytest.fixture(scope="module")
def manual(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Retriever]:
    folder = ingested(tmp_path_factory.mktemp("manual"), MANUAL, 256)
    with opened(folder) as retriever:
        yield retriever


def part(tickets: Path, **keys: Any) -> Retrieve:
    other = {"name": "tickets", "store": str(tickets), "when": [r"\bticket\b"]}
    other["about"] = ABOUT_TICKETS
    route = {"kind": "route", "about": ABOUT_MANUAL, "stores": [other], **keys}
    return Retrieve.model_validate({"transforms": [route, "feedback"], "smoothing": 0})


class Says(Session):
    """A model that answers with one name, and remembers what it was told."""

    def __init__(self, name: str) -> None:
        self.name_, self.told = name, ""

    def answer(self, request: Any) -> Reply:
        self.told = request.messages[0]["content"]
        return Reply(json.dumps({"store": self.name_}), 1, 1, "stop")


@pytest.mark.parametrize("by", ["rules", "embeddings", "engine"])
def test_a_question_goes_to_one_store_or_none(by: str, manual: Retriever, tickets: Path) -> None:
    made = part(tickets, by=by, never=["^hello"], margin=0.0)
    for question, name, uri in (
        ("which ticket is about a black screen", "tickets", "t1.md"),
        ("how is the filter cleaned", "documents", "pump.md"),
        ("hello, how are you?", "none", None),
    ):
        model = Says(name)
        found = manual.search(question, made, model)
        assert (model.told != "") is (by == "engine")
        assert [hit["source"]["uri"] for hit in found.hits] == ([uri] if uri else [])
        step = found.trace[0]
        if name == "tickets":
            assert step["store"] == str(tickets) == found.hits[0]["source"]["store"]
        else:
            assert "store" not in step and found.asked.search is (name == "documents")
    assert by != "engine" or all(text in model.told for text in (*ABOUT_MANUAL, *ABOUT_TICKETS))


def test_a_name_that_is_not_there_leaves_the_question_as_it_was(
    manual: Retriever, tickets: Path
) -> None:
    found = manual.search("the filter", part(tickets, by="engine"), Says("archive"))
    assert "not there" in found.trace[0]["failed"]
    assert [hit["source"]["uri"] for hit in found.hits] == ["pump.md"]


def test_ask_declines_what_no_store_knows_and_cites_the_store_it_used(
    manual: Retriever, tickets: Path, tmp_path: Path
) -> None:
    from contextlib import ExitStack

    from llmctl.ask import Asker, LateSession

    retrieve = part(tickets, by="rules").model_dump(mode="json")
    retrieve["transforms"] = [each.dump() for each in part(tickets, by="rules").transforms]
    recipe = AskRecipe.model_validate({
        "stage": "ask", "store": str(manual.folder), "out": str(tmp_path), "engine": "echo",
        "retrieve": retrieve, "decline": {"deviations": 0, "least": 0.6},
    })  # fmt: skip
    assert recipe.inputs()["retrieve.transforms.0.stores.tickets"] == tickets

    class Cites(Session):
        def answer(self, request: Any) -> Reply:
            return Reply("The screen stays black [1].", 1, 1, "stop")

    late = LateSession(recipe, ExitStack())
    late._session = Cites()
    asker = Asker(recipe, manual, late)
    answer = asker.ask("In which ticket does the screen of the heat pump stay black?")
    assert answer["declined"] is None and answer["citations"][0]["uri"] == "t1.md"
    assert asker.ask("Who painted the ceiling of the chapel?")["declined"] == "evidence"


def test_routes_that_cannot_work_are_one_line(manual: Retriever, tmp_path: Path) -> None:
    other = {"name": "documents", "store": str(tmp_path), "about": ["x"]}
    for keys, problem in (
        ({"stores": [other]}, "have to differ"),
        ({"stores": [{**other, "name": "t", "about": []}]}, "store t: routing by embeddings needs"),
        ({"by": "rules", "stores": [{**other, "name": "t"}]}, "routing by rules needs its `when`"),
        ({"by": "rules"}, "needs `never` or `stores`"),
        ({"by": "rules", "never": ["("]}, "is no pattern"),
    ):
        with pytest.raises(ValueError, match=problem):
            Retrieve.model_validate({"transforms": [{"kind": "route", "about": ["y"], **keys}]})
    with pytest.raises(InputError, match="is not there; name what"):
        manual.search("a ticket", part(tmp_path / "gone", by="rules"))
    from llmctl.evaluation.tasks.base import Task

    routed = part(tmp_path, by="rules").model_dump()
    routed["transforms"] = [each.dump() for each in part(tmp_path, by="rules").transforms]
    with pytest.raises(ValueError, match="judgements are of one store"):
        Task.of({"kind": "retrieval", "store": "a", "data": "b", "retrieve": routed})
