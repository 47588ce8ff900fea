"""An embedding model in ONNX Runtime: batches of nearly equal length, filled by their tokens.

The model is exported from its folder once, with torch, and kept under the cache by its digest;
afterwards neither torch nor transformers is loaded.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from llmctl.errors import InputError
from llmctl.processes import processors
from llmctl.rag.embedders._local import LocalEmbedder
from llmctl.rag.embedders._vectors import prompts_of, unit

if TYPE_CHECKING:
    import numpy as np

FORMAT = 1
INSTEAD = "set embedder.kind: sentence_transformers"
INPUTS = ("input_ids", "attention_mask")


class Model:
    """A session with its tokenizer and the pooling that the model's folder asks for."""

    def __init__(self, embedder: OnnxEmbedder) -> None:
        import onnxruntime
        from tokenizers import Tokenizer

        from llmctl import modelref

        folder = modelref.hf_folder(embedder.model)
        self.settings = embedder
        self.cut: Sequence[int] = ()
        self.prompts = prompts_of(folder, embedder.text_prefix, embedder.query_prefix)
        self.pooling = pooling_of(folder, prompts=any(self.prompts))
        self.layers = layers_of(folder)
        if not (folder / "tokenizer.json").is_file():
            raise InputError(f"{folder}: has no tokenizer.json; {INSTEAD}")
        self._tokenizer: Any = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self.limit = embedder.max_tokens or limit_of(folder)
        self._tokenizer.enable_truncation(self.limit)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        # two batches at a time, each mostly on a core of its own: the work between the products
        # of matrices, which one thread does, then keeps no core idle
        cores = processors()
        self._pool = ThreadPoolExecutor(min(2, cores))
        options.intra_op_num_threads = max(1, cores - 1)
        file = exported(folder, embedder.precision)
        self._session: Any = onnxruntime.InferenceSession(
            str(file), options, providers=["CPUExecutionProvider"]
        )
        self.dimensions = self._embedding(["a"])().shape[1]

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of stored texts, shape (texts, dimensions)."""
        return self.begun(texts)()

    def begun(self, texts: Sequence[str]) -> Callable[[], np.ndarray]:
        """As `texts`, without waiting: what is returned gives the vectors when they are there."""
        return self._embedding([self.prompts.text + text for text in texts])

    def query(self, text: str) -> np.ndarray:
        """Vector of a question."""
        vector: np.ndarray = self._embedding([self.prompts.query + text])()[0]
        return vector

    def tokens(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Vectors of each text's tokens without the first and last (special) ones."""
        import numpy as np

        def split(hidden: np.ndarray, mask: np.ndarray) -> list[np.ndarray]:
            rows = [row[: int(own.sum())] for row, own in zip(hidden, mask, strict=True)]
            rows = [row[1:-1] if len(row) > 2 else row for row in rows]
            return [row / np.linalg.norm(row, axis=1, keepdims=True) for row in rows]

        return self._mapped(texts, split)()

    def _embedding(self, texts: Sequence[str]) -> Callable[[], np.ndarray]:
        import numpy as np

        def pooled(hidden: np.ndarray, mask: np.ndarray) -> np.ndarray:
            if self.pooling == "cls":
                vectors = hidden[:, 0].copy()  # a view would keep all of a group's hidden states
            else:
                weights = mask[:, :, None].astype(np.float32)  # (batch, time, 1)
                vectors = (hidden * weights).sum(1) / weights.sum(1)
            for weight in self.layers:
                vectors = vectors @ weight.T
            return vectors

        made = self._mapped(texts, pooled)
        return lambda: unit(np.stack(made()), self.settings.dimensions, self.settings.model)

    def close(self) -> None:
        """Begin no further batch."""
        self._pool.shutdown(cancel_futures=True)

    def _mapped(
        self,
        texts: Sequence[str],
        each: Callable[[np.ndarray, np.ndarray], Iterable[np.ndarray]],
    ) -> Callable[[], list[np.ndarray]]:
        """What `each` makes of a batch: its hidden states (batch, time, width) and mask."""
        encoded = self._tokenizer.encode_batch_fast(list(texts))
        self.cut = [place for place, one in enumerate(encoded) if one.overflowing]
        ids = [one.ids for one in encoded]

        def run(places: list[int]) -> Iterable[np.ndarray]:
            import numpy as np

            shape = (len(places), len(ids[places[-1]]))
            tokens, mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
            for row, place in enumerate(places):
                tokens[row, : len(ids[place])] = ids[place]
                mask[row, : len(ids[place])] = 1
            given = dict(zip(INPUTS, (tokens, mask), strict=True))
            return each(self._session.run(None, given)[0], mask)

        batches = batches_of([len(one) for one in ids], self.settings.batch_tokens)
        made = map(run, batches) if len(batches) == 1 else self._pool.map(run, batches)

        def found() -> list[np.ndarray]:
            rows: dict[int, np.ndarray] = {}
            for places, batch in zip(batches, made, strict=True):
                rows |= zip(places, batch, strict=True)
            return [rows[place] for place in range(len(ids))]

        return found


def batches_of(lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Places of texts by length, so many together that they are at most `tokens` with padding."""
    batches: list[list[int]] = []
    for place in sorted(range(len(lengths)), key=lambda place: (lengths[place], place)):
        if batches and (len(batches[-1]) + 1) * lengths[place] <= tokens:
            batches[-1].append(place)
        else:
            batches.append([place])
    return batches


def pooling_of(folder: Path, *, prompts: bool = False) -> Literal["mean", "cls"]:
    """How token vectors become one, from the folder's modules; mean without them.

    `prompts` says whether anything is put before texts: some models leave that out of the mean.
    """
    modules = _json(folder / "modules.json") or []
    for module in modules:
        kind = str(module["type"]).rpartition(".")[2]
        if kind not in ("Transformer", "Pooling", "Normalize", "Dense"):
            raise InputError(f"{folder}: its module {kind} is not known to onnx; {INSTEAD}")
        if kind == "Pooling":
            config = _json(folder / module["path"] / "config.json") or {}
            if prompts and config.get("include_prompt") is False:
                raise InputError(f"{folder}: pools without the prompt; {INSTEAD}")
            modes = {k.removeprefix("pooling_mode_") for k, on in config.items() if on is True}
            modes |= {str(config.get("pooling_mode", ""))} - {""}
            modes &= {"mean", "cls", "mean_tokens", "cls_token", "max_tokens", "lasttoken"}
            if modes <= {"cls", "cls_token"} and modes:
                return "cls"
            if not modes <= {"mean", "mean_tokens"}:
                raise InputError(f"{folder}: pools by {', '.join(sorted(modes))}; {INSTEAD}")
    return "mean"


def layers_of(folder: Path) -> list[np.ndarray]:
    """The linear layers behind the pooling, shape (out, in).

    A Normalize between them changes nothing: the length of what comes out is 1 anyway.
    """
    found = []
    for module in _json(folder / "modules.json") or []:
        if str(module["type"]).endswith(".Dense"):
            from safetensors.numpy import load_file

            place = folder / module["path"]
            about = _json(place / "config.json") or {}
            linear = str(about.get("activation_function", "")).endswith(".Identity")
            weights = load_file(place / "model.safetensors") if linear else {}
            if set(weights) != {"linear.weight"}:
                raise InputError(f"{folder}: its module Dense is more than linear; {INSTEAD}")
            found.append(weights["linear.weight"])
    return found


def limit_of(folder: Path) -> int:
    """The longest text that the model reads, in tokens."""
    given = (_json(folder / "sentence_bert_config.json") or {}).get("max_seq_length")
    positions = (_json(folder / "config.json") or {}).get("max_position_embeddings", 512)
    return int(given or positions)


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def exported(folder: Path, precision: str) -> Path:
    """The ONNX file of a model folder; made once and kept under the cache."""
    from llmctl import digest

    room = digest.cache_folder() / "onnx"
    room.mkdir(parents=True, exist_ok=True)
    file = room / f"{digest.of_path(folder)}-{precision}-{FORMAT}.onnx"
    with file.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another process may be exporting the same model
        if not file.is_file():
            partial = file.with_suffix(".partial")  # a killed export's is written over
            if precision == "int8":
                _quantize(exported(folder, "fp32"), partial)
            else:
                _export(folder, partial)
            partial.replace(file)
    return file


def _quantize(source: Path, target: Path) -> None:
    import logging

    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.disable(logging.WARNING)  # it recommends its own pre-processing
    try:
        quantize_dynamic(source, target, weight_type=QuantType.QInt8, per_channel=True)
    finally:
        logging.disable(logging.NOTSET)


def _export(folder: Path, target: Path) -> None:
    """Export the hidden states of the last layer, and compare them with the model's own."""
    import warnings

    import numpy as np
    import onnxruntime
    import torch
    from transformers import AutoModel

    from llmctl import modelref

    with modelref.silenced():
        model = AutoModel.from_pretrained(
            folder, attn_implementation="eager", local_files_only=True, dtype=torch.float32
        ).eval()
    model.requires_grad_(False)

    class Hidden(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            found = self.model(input_ids=input_ids, attention_mask=attention_mask)
            return found.last_hidden_state

    hidden = Hidden().eval()
    tokens = torch.randint(5, 500, (2, 9), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(tokens)
    mask[1, 6:] = 0
    axes = {name: {0: "batch", 1: "time"} for name in (*INPUTS, "hidden")}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                hidden, (tokens, mask), str(target), input_names=list(INPUTS),
                output_names=["hidden"], dynamic_axes=axes, opset_version=17, dynamo=False,
            )  # fmt: skip
        session = onnxruntime.InferenceSession(str(target), providers=["CPUExecutionProvider"])
        given = {"input_ids": tokens[:, :7].numpy(), "attention_mask": mask[:, :7].numpy()}
        made = session.run(None, given)[0]
    except Exception as error:
        # exporters fail in ways of their own: the other embedder takes every model
        raise InputError(
            f"{folder}: cannot be exported to ONNX ({type(error).__name__}); {INSTEAD}"
        ) from error
    with torch.no_grad():
        wanted = hidden(tokens[:, :7], mask[:, :7]).numpy()
    if not np.allclose(made[mask[:, :7] == 1], wanted[mask[:, :7] == 1], atol=1e-3):
        raise InputError(f"{folder}: its ONNX export gives other numbers; {INSTEAD}")


class OnnxEmbedder(LocalEmbedder):
    """Twice the speed of sentence-transformers on a CPU at equal vectors; fp32 or int8."""

    needs: ClassVar[dict[str, str]] = {
        "onnxruntime": "rag",
        "onnx": "rag",
        "tokenizers": "rag",
        "torch": "rag",
        "transformers": "rag",
    }

    precision: Literal["fp32", "int8"] = Field(
        "fp32", description="int8 is faster and may lose quality: measure it with your documents."
    )
    batch_tokens: int = Field(
        2048, ge=1, description="Tokens that go through the model together, with padding."
    )

    @contextmanager
    def open(self) -> Iterator[Model]:
        """Load the model; the first time it is exported, which takes seconds."""
        model = Model(self)
        try:
            yield model
        finally:
            model.close()
