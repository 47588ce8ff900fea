"""Models through Transformers, in this process: any architecture, log-probabilities."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from llmctl.engines.base import Engine, Messages, Reply, Request, Session
from llmctl.errors import InputError, LlmctlError, MissingError, install_hint
from llmctl.generation.spending import CallError
from llmctl.schema.parts import Device, ModelRef


def named(device: str) -> str:
    """The device that is meant: `auto` is a GPU where there is one."""
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device


def device_here(device: str) -> str:
    """As `named`; a device that this machine lacks is refused."""
    import torch

    device = named(device)
    kind, _, number = device.partition(":")
    there = kind == "cpu" or (kind == "mps" and torch.backends.mps.is_available())
    if kind in ("cuda", "xpu"):
        there = int(number or 0) < getattr(torch, kind).device_count()
    if not there:
        raise MissingError(f"device: {device} is not on this machine; `device: auto` takes what is")
    return device


class TransformersEngine(Engine):
    """One request at a time on CPU; there is no grammar, so a schema is refused."""

    needs: ClassVar[dict[str, str]] = {"torch": "train", "transformers": "train"}
    holds_to_schema: ClassVar[bool] = False

    model: ModelRef
    adapter: Path | None = Field(
        None,
        description="An adapter on the model: artifact folder of sft or dpo, or a folder of PEFT. "
        "A soft prompt or a prefix can be used in no other way.",
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="Weights in memory; auto is float32 on CPU and bfloat16 on a GPU."
    )
    device: Device = "auto"
    context: int = Field(
        4096,
        ge=128,
        description="Longest prompt and answer together, in tokens; no more than the model has "
        "positions.",
    )

    def load_options(self) -> dict[str, Any]:
        """The keywords of `from_pretrained`."""
        import torch

        device = named(self.device)
        name = self.dtype
        if name == "auto":
            name = "bfloat16" if device.startswith("cuda") else "float32"
        return {"dtype": getattr(torch, name), "device": device}

    @contextmanager
    def start(self) -> Iterator[Session]:
        """Load the model and its tokenizer."""
        from transformers import AutoModelForCausalLM

        from llmctl import digest, modelref, pretrained

        device_here(self.device)
        folder = modelref.hf_folder(self.model)
        adapter = None if self.adapter is None else adapter_of(self.adapter, self.model)
        options = self.load_options()
        with modelref.silenced():
            own = adapter if adapter and (adapter / "tokenizer.json").is_file() else folder
            tokenizer = pretrained.tokenizer(own)
            model = pretrained.model(AutoModelForCausalLM, folder, dtype=options["dtype"])
            if adapter is not None:
                model = with_adapter(model, adapter, len(tokenizer))
        session = TransformersSession(model.to(options["device"]).eval(), tokenizer, self.context)
        session.weights = digest.of_path(folder)
        if adapter is not None:
            both = {"model": session.weights, "adapter": digest.of_path(adapter)}
            session.weights = digest.of_listing(both)
        session.name = f"{session.weights}:{options['dtype']}"
        yield session

    def model_inputs(self) -> dict[str, Path | str]:
        """The model, and the adapter."""
        return super().model_inputs() | ({"adapter": self.adapter} if self.adapter else {})


def adapter_of(path: Path, model: str) -> Path:
    """The folder of PEFT; refuses one whose manifest says that it was trained on something else."""
    from llmctl import artifact, modelref

    folder = modelref.adapter_folder(path)
    manifest = artifact.read_manifest(path)
    if manifest is None:
        return folder
    if manifest["recipe"].get("method") == "qlora":
        raise InputError(
            f"{path}: was trained on a base of four bits; give the artifact as `model`, which is "
            "the merged one"
        )
    trained_on = manifest["inputs"].get("model", {})
    given = artifact.find_input("model", model, str(path), fetch=True)
    if trained_on.get("sha256") not in (None, given.digest):
        raise InputError(f"{path}: was trained on {trained_on.get('ref')}, which is not {model}")
    return folder


def with_adapter(model: Any, folder: Path, words: int) -> Any:
    """The base with the adapter on it; `words` is how many tokens the adapter's tokenizer has."""
    try:
        from llmctl.training.attach import attached

        if words > model.get_input_embeddings().num_embeddings:  # it was trained with new tokens
            model.resize_token_embeddings(words, mean_resizing=False)
        return attached(model, folder)
    except ImportError:
        raise MissingError(f"{folder}: an adapter needs {install_hint('train')}") from None


class TransformersSession(Session):
    """Greedy or sampled generation, and log-probabilities of given continuations."""

    def __init__(self, model: Any, tokenizer: Any, context: int) -> None:
        self.model = model
        # the vectors of a soft prompt stand before the first token only; the cache keeps them
        self.rest = model.get_base_model() if hasattr(model, "peft_config") else model
        self.tokenizer = tokenizer
        # past its positions a model fails, or writes nonsense
        positions = getattr(model.config, "max_position_embeddings", None)
        self.context = min(context, positions or context)
        self._lock = threading.Lock()

    def prompt_ids(self, request: Request) -> Any:
        """The rendered prompt, shape (1, tokens); one without room for an answer is refused."""
        from jinja2 import TemplateError

        if self.tokenizer.chat_template is None:
            raise InputError("the model has no chat template; it cannot chat")
        try:
            encoded = self.tokenizer.apply_chat_template(
                list(request.messages), add_generation_prompt=True, return_tensors="pt",
                return_dict=True,
            )  # fmt: skip
        except TemplateError as error:  # of a system turn, or of two user turns in a row
            raise InputError(f"the model's chat template refuses the messages: {error}") from None
        ids = encoded["input_ids"]
        if ids.shape[1] + 1 > self.context:
            raise CallError(
                f"the prompt has {ids.shape[1]} tokens, the context {self.context}; shorten it"
            )
        return ids.to(self.model.device)

    def prompt_tokens(self, messages: Messages) -> list[int]:
        """See Session."""
        ids: list[int] = self.prompt_ids(Request(messages))[0].tolist()
        return ids

    def answer(self, request: Request) -> Reply:
        """See Session; a stop string ends the text before itself."""
        pieces = list(self.stream(request))
        return pieces[-1][1]

    def stream(self, request: Request) -> Iterator[tuple[str, Reply]]:
        """(new text, reply so far) for each token, the last with the final reply."""
        import torch

        from llmctl.modelref import cache_key

        if request.schema is not None:
            raise LlmctlError(
                "the transformers engine cannot enforce a JSON Schema; use llamacpp or openai"
            )
        with self._lock:
            ids = self.prompt_ids(request)
            generator = torch.Generator().manual_seed(request.seed)
            ends = self._ends()
            found: list[int] = []
            shown, past, step, finish = "", None, ids, "length"
            room = min(request.max_tokens, self.context - ids.shape[1])
            kept = cache_key()
            for _ in range(room):
                # a server asks for each piece in any of its threads, and the mode is a thread's own
                with torch.inference_mode():
                    more: dict[str, Any] = {} if past is None else {kept: past}
                    forward = self.rest if more else self.model
                    out = forward(input_ids=step, use_cache=True, logits_to_keep=1, **more)
                    logits = out.logits[0, -1].float().cpu()
                past = out[kept]
                token = self._pick(logits, request.temperature, generator)
                if token in ends:
                    finish = "stop"
                    break
                found.append(token)
                step = torch.tensor([[token]], device=ids.device)
                text = self.tokenizer.decode(found, skip_special_tokens=True)
                stopped = [at for s in request.stop if (at := text.find(s)) >= 0]
                if stopped:
                    text, finish = text[: min(stopped)], "stop"
                if text.endswith("\ufffd") and not stopped:
                    continue  # half of a character
                if len(text) > len(shown):
                    new, shown = text[len(shown) :], text
                    yield new, Reply(shown, ids.shape[1], len(found), "")
                if stopped:
                    break
            yield "", Reply(shown, ids.shape[1], len(found), finish)

    def _ends(self) -> set[int]:
        configured = self.model.generation_config.eos_token_id
        ends = set(configured if isinstance(configured, list) else [configured])
        return {end for end in {*ends, self.tokenizer.eos_token_id} if end is not None}

    @staticmethod
    def _pick(logits: Any, temperature: float, generator: Any) -> int:
        import torch

        if temperature <= 0:
            return int(logits.argmax())
        chances = torch.softmax(logits / temperature, -1)
        return int(torch.multinomial(chances, 1, generator=generator))

    def logprobs(self, pairs: Sequence[tuple[str, str]]) -> list[list[float]]:
        """Per token, in nats; the cut follows lm-eval: trailing spaces go to the continuation."""
        import torch

        found = []
        with self._lock, torch.inference_mode():
            for context, continuation in pairs:
                spaces = len(context) - len(context.rstrip())
                if spaces:
                    context, continuation = context[:-spaces], context[-spaces:] + continuation
                whole = self.tokenizer(context + continuation, add_special_tokens=False).input_ids
                head = self.tokenizer(context, add_special_tokens=False).input_ids
                start = len(head) or 1  # the very first token has no predictor
                ids = torch.tensor([whole], device=self.model.device)
                logits = self.model(input_ids=ids).logits[0, -len(whole) :]  # a soft prompt's first
                logits = logits[start - 1 : -1].float()
                scores = torch.log_softmax(logits, -1).cpu()
                targets = torch.tensor(whole[start:])
                found.append(scores.gather(1, targets[:, None])[:, 0].tolist())
        return found
