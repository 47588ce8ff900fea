"""How much a store knows about a question, and what is too little: no model, no judgements.

Evidence = the largest cosine of a chunk with the question + the largest share of the question's
words that one chunk holds (BM25 over its largest possible value, with a word that occurs nowhere
counted as the rarest). Unanswerable questions get little of both: a text that shares a subject
shares some meaning, a text that answers also shares the words.

What little means differs between stores. So the evidence of GENERAL questions, which few stores
answer, is measured in each store; their median and median absolute deviation are robust against
the few that a store does answer.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llmctl import digest

if TYPE_CHECKING:
    from llmctl.rag.retrieve import Retriever

VERSION = 1
GENERAL = """
How long do I boil an egg?
Who won the football final last year?
What is the capital of Mongolia?
How do I get a red wine stain out of a shirt?
Why do cats purr?
When was the last ice age?
How do I change a bicycle tyre?
What are the symptoms of measles?
Which planets have rings?
How much does a flight to Lisbon cost?
Who painted the ceiling of the Sistine Chapel?
How do I say good morning in Swahili?
What should I plant next to tomatoes?
How is cheese made?
Can I return shoes that I have worn?
What is the tallest mountain in Africa?
How do bees find their way home?
Which instruments are in a string quartet?
When do I have to file my tax return?
How do I train a puppy to sit?
What causes thunder?
Who was the first queen of England?
How many players are in a rugby team?
What is a good name for a boat?
How do I renew my passport?
Why is the sea salty?
What does a dentist do about a broken tooth?
How is paper recycled?
Which herbs go with lamb?
How do vaccines work?
What is the difference between a crocodile and an alligator?
How do I fold a paper crane?
Where do penguins live?
What year did the Berlin Wall fall?
How do I apply for a mortgage?
What is the plot of Romeo and Juliet?
How often should I water a cactus?
Why do leaves turn red in autumn?
What is the best way to learn the guitar?
How does a court choose a jury?
Who discovered penicillin?
What can I cook with leftover rice?
How deep is the deepest lake?
How do I stop a baby from crying?
What is the offside rule?
How do I hang a picture on a brick wall?
Which countries border Switzerland?
How do whales sleep?
What time does the supermarket open on Sundays?
Why was the Suez Canal built?
How do I remove a splinter?
What is the role of the kidneys?
How do I choose running shoes?
Which poet wrote about daffodils?
What is inflation?
How are diamonds formed?
How do I unblock a kitchen sink?
What did the Vikings eat?
How do I write a letter of condolence?
What is the fastest land animal?
""".strip().splitlines()
"""Questions about everyday life; changing them changes every threshold, so VERSION is raised."""


@dataclass(frozen=True)
class Usual:
    """The evidence of questions that a store does not answer."""

    median: float
    deviation: float
    """1.4826 times the median absolute deviation: the standard deviation of a normal spread."""

    def threshold(self, deviations: float, least: float) -> float:
        """The evidence from which a question is answered."""
        return max(least, self.median + deviations * self.deviation)


def evidence(retriever: Retriever, question: str) -> dict[str, float]:
    """{cosine, words, evidence} of a question; each part lies between 0 and 1."""
    near = retriever.store.near(retriever.embedder.query(question), 1)
    cosine = max(0.0, near[0].score) if near else 0.0
    words = coverage(retriever, question)
    return {
        "cosine": round(cosine, 4), "words": round(words, 4), "evidence": round(cosine + words, 4)
    }  # fmt: skip


def coverage(retriever: Retriever, question: str) -> float:
    """Largest share of the question's BM25 that one chunk reaches."""
    index = retriever.index
    weights = index.weights(question)
    rarest = math.log(1 + (len(index) + 0.5) / 0.5)
    whole = sum(weight * (index.idf(term) or rarest) for term, weight in weights.items())
    best = index.top(weights, 1)
    return best[0].score / whole if best and whole else 0.0


def usual(retriever: Retriever) -> Usual:
    """What unanswerable questions get in this store; measured once per content of the store."""
    file = digest.cache_folder() / "evidence" / f"{_key(retriever)}.json"
    if file.is_file():
        return Usual(**json.loads(file.read_text(encoding="utf-8")))
    import statistics

    found = [evidence(retriever, question)["evidence"] for question in GENERAL]
    median = statistics.median(found)
    deviation = 1.4826 * statistics.median(abs(each - median) for each in found)
    measured = Usual(round(median, 4), round(deviation, 4))
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(f".{digest.of_json(found)[:8]}.partial")
    partial.write_text(json.dumps(asdict(measured)), encoding="utf-8")
    partial.replace(file)
    return measured


def _key(retriever: Retriever) -> str:
    manifest: Path = retriever.folder / "manifest.json"
    content = digest.of_file(manifest) if manifest.is_file() else str(retriever.folder.resolve())
    return digest.of_json([VERSION, content])[:32]
