"""merge: adapters and models of one base -> one model, with the logits of its parts checked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmctl import modelref, pretrained, ui
from llmctl.artifact import Artifact
from llmctl.errors import InputError, LlmctlError
from llmctl.schema.merge import MergeRecipe

if TYPE_CHECKING:
    from torch import Tensor

PROBE = "The quick brown fox jumps over the lazy dog. 2 + 2 = 4, and 3 * 7 = 21.\n\ndef f(x):\n"
"""What is read to compare logits; any text serves."""


def run(recipe: MergeRecipe, artifact: Artifact) -> None:
    """Write `model/`; the manifest says what it was compared with."""
    from llmctl.training import quiet

    with quiet.libraries():
        _run(recipe, artifact)


def _run(recipe: MergeRecipe, artifact: Artifact) -> None:
    import torch
    from safetensors.torch import save_file

    from llmctl.training import merging, model, rounding

    parts = Parts(recipe, artifact)
    base = parts.base()
    probe = parts.tokenizer(PROBE, add_special_tokens=False).input_ids
    before = weights_of(base)
    files: list[Path] = []
    wanted = parts.reference(probe)
    for number in range(len(recipe.sources)):
        ui.note(f"reading {parts.name(number)}")
        source = parts.source(number)
        own = weights_of(source)
        check_same(parts.name(number), source, own, before)
        changes = {name: own[name] - each for name, each in before.items()}
        files.append(artifact.scratch / f"changes-{number}.safetensors")
        save_file(changes, files[-1])
    draws = torch.Generator().manual_seed(recipe.seed)
    with torch.no_grad():
        for name, weight in base.named_parameters():
            each = [tensor_of(file, name) for file in files]
            weight += recipe.scale * merging.joined(
                each, recipe.weights(), recipe.method, recipe.density, draws
            )
    found = model.logits(base, probe)
    if wanted is not None:
        error = model.gap(found, wanted)
        artifact.metrics["merge_logit_error"] = error
        if error > model.TOLERANCE:
            raise LlmctlError(f"the merged model's logits differ from its parts' by {error:.1%}")
        artifact.summary.append(("logits", f"within {error:.1e} of the parts' own"))
    else:
        artifact.summary.append(("logits", "the parts together have no logits to compare with"))
    dtype = parts.dtype()
    # before it is saved: another type of weights would also round the positions' frequencies
    wanted = model.logits(rounding.rounded(base, dtype, recipe.seed), probe)
    model.save(base, parts.tokenizer, artifact, dtype, recipe.model, "merged")
    check_saved(artifact, wanted, probe)
    artifact.extra["merged"] = [
        {"source": parts.name(number), "weight": weight, "quantized_base": parts.four_bits}
        for number, weight in enumerate(recipe.weights())
    ]
    artifact.summary.append(("sources", f"{len(recipe.sources)}, {recipe.method}"))


def check_same(name: str, source: Any, own: dict[str, Tensor], before: dict[str, Tensor]) -> None:
    """Refuse a source that is not built like the base."""
    import torch

    for key, weight in before.items():
        if key not in own or own[key].shape != weight.shape:
            raise InputError(f"{name}: has no {key} of the base's shape {tuple(weight.shape)}")
    ends = source.get_input_embeddings().weight, source.get_output_embeddings().weight
    parted = set(own) - set(before) and not torch.equal(*ends)
    if parted:
        raise InputError(
            f"{name}: has an output layer of its own ({min(set(own) - set(before))}), which the "
            "base shares with its input; it cannot be joined with the base"
        )


def weights_of(model: Any) -> dict[str, Tensor]:
    """The model's own copy of each weight, in fp32; one that is used twice is there once."""
    return {name: each.detach().float().clone() for name, each in model.named_parameters()}


def tensor_of(file: Path, name: str) -> Tensor:
    """One tensor of a file."""
    from safetensors import safe_open

    with safe_open(str(file), framework="pt") as tensors:
        found: Tensor = tensors.get_tensor(name)
    return found


def check_saved(artifact: Artifact, wanted: Tensor, probe: list[int]) -> None:
    """Refuse a folder that does not give the logits of what was saved into it."""
    from llmctl.training import model

    again, _ = model.load(artifact.folder / "model")
    error = model.gap(model.logits(again, probe), wanted)
    artifact.metrics["saved_logit_error"] = error
    if error > model.TOLERANCE:
        raise LlmctlError(f"the saved model's logits differ from the merged one's by {error:.1%}")


class Parts:
    """The base and the sources of a recipe, loaded one at a time."""

    def __init__(self, recipe: MergeRecipe, artifact: Artifact) -> None:
        self.recipe, self.artifact = recipe, artifact
        self.folder = modelref.hf_folder(recipe.model)
        self.four_bits = recipe.dequantize
        if recipe.dequantize is None:
            self.four_bits = any(self._is_qlora(n) for n in range(len(recipe.sources)))
        if self.four_bits:
            from llmctl.runner import versions

            if versions({"bitsandbytes": "train"})[1]:
                from llmctl.errors import MissingError, install_hint

                raise MissingError(f"a base of 4 bits needs bitsandbytes: {install_hint('train')}")
        self.folders = [self._folder(number) for number in range(len(recipe.sources))]
        self.tokenizer = pretrained.tokenizer(self.folder)
        for number, folder in enumerate(self.folders):
            self._check(number, folder)
            if (folder / "tokenizer.json").is_file():
                own = pretrained.tokenizer(folder)
                if number and own.get_vocab() != self.tokenizer.get_vocab():
                    raise InputError(
                        f"{self.name(number)}: has another vocabulary than the sources before it"
                    )
                self.tokenizer = own

    def name(self, number: int) -> str:
        """A source as the recipe calls it."""
        source = self.recipe.sources[number]
        return str(source.adapter or source.model)

    def _folder(self, number: int) -> Path:
        source = self.recipe.sources[number]
        if source.adapter is not None:
            return modelref.adapter_folder(source.adapter)
        return modelref.hf_folder(self.name(number))

    def _manifest(self, number: int) -> dict[str, Any]:
        return self.artifact.manifest_of(f"sources.{number}.adapter") or {}

    def _is_qlora(self, number: int) -> bool:
        return bool(self._manifest(number).get("recipe", {}).get("method") == "qlora")

    def _check(self, number: int, folder: Path) -> None:
        """Refuse an adapter of another base, and one that is no part of any weight."""
        trained_on = self._manifest(number).get("inputs", {}).get("model", {}).get("sha256")
        given = self.artifact.inputs.get("model")
        if trained_on and given is not None and trained_on != given.digest:
            ref = self._manifest(number)["inputs"]["model"]["ref"]
            raise InputError(f"{self.name(number)}: was trained on {ref}, which is not {given.ref}")
        config = folder / "adapter_config.json"
        if self.recipe.sources[number].adapter is not None:
            kind = modelref.read_json(config).get("peft_type")
            if kind not in ("LORA", "IA3"):
                raise InputError(
                    f"{self.name(number)}: an adapter of kind {kind} is no part of any weight; "
                    + modelref.ON_ITS_BASE
                )

    def base(self) -> Any:
        """The base in fp32, with vectors for the tokens that the sources added."""
        from llmctl.schema.method import Qlora
        from llmctl.training import adapters, config, model, vocabulary

        bits = config.bits(self._qlora() or Qlora(), "fp32") if self.four_bits else None
        base, tokenizer = model.load(self.folder, four_bits=bits)
        if bits is not None:
            base = adapters.dequantized(base)
        known = set(tokenizer.get_vocab().values())
        new = sorted(set(self.tokenizer.get_vocab().values()) - known)
        vocabulary.fit(base, vocabulary.Vocabulary(self.tokenizer, tuple(new)))
        return base

    def _qlora(self) -> Any:
        """How the base was quantized when the adapters were trained."""
        from llmctl.schema.method import Qlora

        ways = [
            Qlora.model_validate({**self._manifest(n)["recipe"]["qlora"], "compute": "fp32"})
            for n in range(len(self.recipe.sources))
            if self._is_qlora(n)
        ]
        if any(way != ways[0] for way in ways):
            raise InputError("the adapters were trained on bases that were quantized differently")
        return ways[0] if ways else None

    def source(self, number: int) -> Any:
        """A source as a whole model."""
        from llmctl.training import attach, model

        if self.recipe.sources[number].adapter is None:
            return model.load(self.folders[number])[0]
        return attach.attached(self.base(), self.folders[number]).merge_and_unload()

    def reference(self, probe: list[int]) -> Any:
        """The logits that the merged model has to have; None where nothing else computes them.

        PEFT runs several LoRA adapters beside each other, each with its factor. A single source is
        compared with itself.
        """
        from peft.tuners.lora import LoraLayer

        from llmctl.training import attach, model

        recipe = self.recipe
        factors = [recipe.scale * weight for weight in recipe.weights()]
        if recipe.method != "linear":
            return None
        if factors == [1.0]:
            if recipe.sources[0].adapter is None:
                return model.logits(model.load(self.folders[0])[0], probe)
            return model.logits(attach.attached(self.base(), self.folders[0]), probe)
        if any(not plain(folder) for folder in self.folders):
            return None
        together = attach.attached(self.base(), self.folders[0])
        names = ["default"]
        for number, folder in enumerate(self.folders[1:], 1):
            names.append(f"source{number}")
            together.load_adapter(str(folder), adapter_name=names[-1])
        together.base_model.set_adapter(names)
        for layer in together.modules():
            if isinstance(layer, LoraLayer):
                for name, factor in zip(names, factors, strict=True):
                    layer.scaling[name] *= factor
        return model.logits(together, probe)

    def dtype(self) -> Any:
        """The type of the saved weights."""
        from llmctl.training import model

        return model.saved_dtype(self.folder, self.recipe.dtype)


def plain(folder: Path) -> bool:
    """Whether a folder is a LoRA adapter that only adds products of two matrices."""
    config = modelref.read_json(folder / "adapter_config.json")
    special = config.get("use_dora") or config.get("modules_to_save")
    return config.get("peft_type") == "LORA" and not special
