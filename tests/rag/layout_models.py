"""The models that docling's PDF pipeline loads, with its architecture but without its learning.

The real ones are on a hub that the tests do not ask. What is written here has the same files in the
same folders and runs through the same code; it finds nothing on a page, or one box that covers it.
"""

from __future__ import annotations

import math
import shutil
from importlib.util import find_spec
from pathlib import Path

LABELS = (
    "caption", "footnote", "formula", "list_item", "page_footer", "page_header", "picture",
    "section_header", "table", "text", "title", "document_index", "code", "checkbox_selected",
    "checkbox_unselected", "form", "key_value_region",
)  # fmt: skip


def write_layout_model(folder: Path, label: str = "") -> Path:
    """An RT-DETR v2 of random weights; with a `label` each page is one box with that label."""
    import torch
    from transformers import (
        RTDetrImageProcessor,
        RTDetrResNetConfig,
        RTDetrV2Config,
        RTDetrV2ForObjectDetection,
    )

    torch.manual_seed(0)
    sizes = [8, 8, 8, 8]
    backbone = RTDetrResNetConfig(
        embedding_size=8, hidden_sizes=sizes, depths=[1, 1, 1, 1], layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip
    model = RTDetrV2ForObjectDetection(
        RTDetrV2Config(
            backbone_config=backbone, use_pretrained_backbone=False, num_queries=4,
            encoder_hidden_dim=16, encoder_in_channels=sizes[1:], encoder_ffn_dim=16,
            encoder_layers=1, encoder_attention_heads=2, d_model=16,
            decoder_in_channels=[16, 16, 16], decoder_ffn_dim=16, decoder_layers=2,
            decoder_attention_heads=2, num_denoising=0, id2label=dict(enumerate(LABELS)),
            label2id={name: n for n, name in enumerate(LABELS)},
        )
    )  # fmt: skip
    if label:
        _always(model, LABELS.index(label))
    target = folder / "docling-project--docling-layout-heron"
    model.save_pretrained(target)
    RTDetrImageProcessor(size={"height": 160, "width": 160}).save_pretrained(target)
    return folder


def _always(model: object, label: int) -> None:
    """Make every query the box (0.5, 0.5, 1, 1) with one label.

    The decoder adds the same step to the logit of a box in each of its two layers, and clamps
    the logit it starts from at that of 1e-5. From there two half steps lead to 0, which is 0.5.
    """
    import torch

    half = math.log(1e5 - 1) / 2
    with torch.no_grad():
        for name, weight in model.named_parameters():  # type: ignore[attr-defined]
            if "class_embed" in name:
                weight.zero_()
                if name.endswith("bias"):
                    weight.fill_(-9.0)[label] = 9.0
            elif "bbox_embed.0.layers.2" in name or "enc_bbox_head.layers.2" in name:
                weight.zero_()
                if name.endswith("bias"):
                    start = [-99.0, -99.0, 99.0, 99.0]
                    weight.copy_(
                        torch.tensor(start if "enc_" in name else [half, half, 20.0, 20.0])
                    )


def write_ocr_models(folder: Path) -> Path:
    """The recognition models that are in rapidocr's wheel; these have learnt."""
    found = find_spec("rapidocr")
    assert found is not None and found.origin is not None
    (folder / "RapidOcr").mkdir(parents=True, exist_ok=True)
    for each in (Path(found.origin).parent / "models").glob("*.onnx"):
        shutil.copy(each, folder / "RapidOcr")
    return folder
