"""The language of a document, told by a model inside a package; others can be dropped."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar, Literal

from pydantic import Field

from llmctl.rag.cleaners.base import NO_META, Cleaned, Cleaner

Code = Literal[
    "ace", "af", "am", "an", "ar", "ary", "arz", "as", "az", "ba", "bcl", "be", "bg", "bn", "br",
    "bs", "ca", "crh", "cs", "cy", "da", "de", "dz", "el", "en", "eo", "es", "et", "eu", "ext",
    "fa", "fi", "fo", "fr", "fuv", "fy", "ga", "gcf", "gcr", "gd", "gl", "gom", "grc", "gu",
    "gug", "guw", "ha", "hbo", "he", "hi", "hr", "ht", "hu", "hy", "id", "ig", "is", "it", "ja",
    "jv", "ka", "kab", "kik", "kk", "km", "kn", "ko", "ku", "ky", "la", "lb", "lg", "lij", "ln",
    "lo", "lt", "ltg", "lv", "mg", "mk", "ml", "mn", "mr", "ms", "mt", "my", "ne", "nl", "nn",
    "no", "nso", "oc", "om", "or", "pa", "pcm", "pl", "ps", "pt", "qu", "ro", "ru", "rw", "sa",
    "sdh", "se", "si", "sk", "sl", "sn", "so", "sq", "sr", "st", "sv", "sw", "ta", "te", "tg",
    "th", "tk", "tl", "tr", "tt", "ug", "uk", "ur", "uz", "uzs", "vec", "vi", "vo", "wa", "wuu",
    "xh", "yo", "yue", "zh", "zu",
]  # fmt: skip
"""The languages that the model knows; its answer zxx means that there is no language."""


class LanguageCleaner(Cleaner):
    """Sets the field `language`; with `allowed`, documents in other languages are dropped."""

    needs: ClassVar[dict[str, str]] = {"py3langid": "rag"}

    allowed: tuple[Code, ...] = Field(
        (), description="Languages that are kept (ISO 639-1); none named keeps all."
    )
    min_confidence: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Below it the language counts as unknown, and the document is kept.",
    )
    max_chars: int = Field(
        20_000, ge=100, description="Characters, spread over the document, that are looked at."
    )

    def clean(self, text: str, meta: Mapping[str, Any] = NO_META) -> Cleaned:
        """The text untouched, with its language or a reason."""
        code, confidence = _model().classify(self._sample(text))
        if confidence < self.min_confidence or code == "zxx" or not text.strip():
            return Cleaned(text, counts={"unknown": 1})
        if self.allowed and code not in self.allowed:
            detail = f"{code} ({confidence:.2f}) is not among {', '.join(self.allowed)}"
            return Cleaned(text, reason="language", detail=detail)
        return Cleaned(text, counts={str(code): 1}, meta={"language": str(code)})

    def _sample(self, text: str) -> str:
        """Ten stretches from all over the text: the first page may be in another language."""
        if len(text) <= self.max_chars:
            return text
        size, step = self.max_chars // 10, len(text) // 10
        return "\n".join(text[n * step : n * step + size] for n in range(10))


@cache
def _model() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
