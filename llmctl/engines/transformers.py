"""Models through Transformers, in this process: any architecture, log-probabilities."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

from pydantic import Field

from llmctl.engines.base import Engine, Reply, Request, Session
from llmctl.errors import LlmctlError
from llmctl.generation.spending import CallError
from llmctl.schema.parts import ModelRef


class TransformersEngine(Engine):
    """One request at a time on CPU; there is no grammar, so a schema is refused."""

    needs: ClassVar[dict[str, str]] = {"torch": "train", "transformers": "train"}
    holds_to_schema: ClassVar[bool] = False

    model: ModelRef
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="Weights in memory; auto is float32 on CPU and bfloat16 on a GPU."
    )
    device: str = Field("auto", description="cpu, cuda, cuda:1 ...; auto takes a GPU when there.")
    context: int = Field(4096, ge=128, description="Longest prompt and answer together, in tokens.")

    def load_options(self) -> dict[str, Any]:
        """The keywords of `from_pretrained`."""
        import torch

        device = self.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        name = self.dtype
        if name == "auto":
            name = "bfloat16" if device.startswith("cuda") else "float32"
        return {"dtype": getattr(torch, name), "device": device}

    @contextmanager
    def start(self) -> Iterator[Session]:
        """Load the model and its tokenizer."""
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from llmctl import digest, modelref

        folder = modelref.hf_folder(self.model)
        options = self.load_options()
        with modelref.silenced():
            tokenizer = AutoTokenizer.from_pretrained(folder)
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=options["dtype"])
        session = TransformersSession(model.to(options["device"]).eval(), tokenizer, self.context)
        session.weights = digest.of_path(folder)
        session.name = f"{session.weights}:{options['dtype']}"
        yield session


class TransformersSession(Session):
    """Greedy or sampled generation, and log-probabilities of given continuations."""

    def __init__(self, model: Any, tokenizer: Any, context: int) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.context = context
        self._lock = threading.Lock()

    def prompt_ids(self, request: Request) -> Any:
        """The rendered prompt, shape (1, tokens); one without room for an answer is refused."""
        if self.tokenizer.chat_template is None:
            raise LlmctlError("the model has no chat template; it cannot chat")
        encoded = self.tokenizer.apply_chat_template(
            list(request.messages), add_generation_prompt=True, return_tensors="pt",
            return_dict=True,
        )  # fmt: skip
        ids = encoded["input_ids"]
        if ids.shape[1] + 1 > self.context:
            raise CallError(
                f"the prompt has {ids.shape[1]} tokens, the context {self.context}; shorten it"
            )
        return ids.to(self.model.device)

    def answer(self, request: Request) -> Reply:
        """See Session; a stop string ends the text before itself."""
        pieces = list(self.stream(request))
        return pieces[-1][1]

    def stream(self, request: Request) -> Iterator[tuple[str, Reply]]:
        """(new text, reply so far) for each token, the last with the final reply."""
        import torch

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
            for _ in range(room):
                # a server asks for each piece in any of its threads, and the mode is a thread's own
                with torch.inference_mode():
                    out = self.model(step, past_key_values=past, use_cache=True, logits_to_keep=1)
                    logits = out.logits[0, -1].float().cpu()
                past = out.past_key_values
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
                logits = self.model(ids).logits[0, start - 1 : -1].float()
                scores = torch.log_softmax(logits, -1).cpu()
                targets = torch.tensor(whole[start:])
                found.append(scores.gather(1, targets[:, None])[:, 0].tolist())
        return found
