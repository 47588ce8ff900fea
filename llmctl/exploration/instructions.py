"""What instructions ask for: the verb and the noun that it acts on, as self-instruct counts them.

Wang et al. (2023) parse each instruction; this is a rule without a parser, for English. It looks
for the first sentence that begins with a verb of `VERBS` or with a question word, and takes the
last word of the noun phrase behind it. What it does not recognise is counted as such.
"""

from __future__ import annotations

import re

from llmctl.rag.terms import ENGLISH

WORDS = """
add analyse analyze answer apply arrange assess assign brainstorm build calculate categorize
change check choose classify combine come compare complete compose compute conclude construct
continue contrast convert correct count craft create critique debug decide deduce define
delete derive describe design detect determine develop diagnose differentiate discuss divide
draft draw edit elaborate estimate evaluate evolve examine expand explain explore express
extract fill find finish fix follow format formulate generate give guess help highlight
identify illustrate imagine implement improve infer insert interpret introduce invent join
judge label list locate look make match measure mention merge modify name narrate offer order
organize outline paraphrase parse perform pick plan plot predict prepare present print produce
proofread propose prove provide put rank rate read rearrange recommend reduce refactor
reformulate remove rename reorder repeat rephrase replace report respond restate return reverse
review revise rewrite roleplay say score search select share shorten show simplify
simulate solve sort specify split state structure suggest summarise summarize synthesize take
tell think train transform translate try turn update use validate verify visualize write
"""
VERBS = frozenset(WORDS.split())
QUESTION_WORDS = "what which who whom whose when where why how is are do does can"
QUESTIONS = frozenset(QUESTION_WORDS.split())
POLITE = re.compile(
    r"(?:(?:please|kindly|now|then|next|first|also|hello|hi|hey)\b[,!]?\s*"
    r"|(?:can|could|would|will)\s+you\s+(?:please\s+)?|i\s+(?:want|need)\s+you\s+to\s+|let'?s\s+"
    r"|help\s+me\s+(?:to\s+)?|your\s+task\s+is\s+to\s+)+"
)
SENTENCE = re.compile(r"(?<=[.!?:])\s+|\n+")
PIECE = re.compile(r"[a-z]+(?:['’-][a-z]+)*|[^\sa-z]+")
LOOKED_AT = 8
"""Sentences of an instruction that are looked at."""
PHRASE = 4
"""Longest noun phrase, in words."""
LITTLE = ENGLISH | {"following", "given", "one", "two", "three", "four", "five", "six", "ten"}


def asked(instruction: str) -> tuple[str, str] | None:
    """(verb, noun) of an instruction, (question word, noun) of a question; None for neither.

    A sentence whose first word has no noun behind it counts only when no other sentence does.
    """
    found = None
    for sentence in SENTENCE.split(instruction.strip().casefold(), LOOKED_AT)[:LOOKED_AT]:
        pieces = PIECE.findall(POLITE.sub("", sentence.strip(" \"'*-•#>"), count=1))
        if not pieces:
            continue
        asks = pieces[0] in QUESTIONS and sentence.endswith("?")
        if pieces[0] in VERBS or asks:
            pair = pieces[0], noun(pieces[1:])
            if pair[1] and not asks:
                return pair
            if found is None or (pair[1] and not found[1]):
                found = pair
    return found


def noun(pieces: list[str]) -> str:
    """The last word of the first run of content words; empty when there is none."""
    found: list[str] = []
    for piece in pieces:
        if piece[0].isalpha() and piece not in LITTLE:
            found.append(piece)
            if len(found) == PHRASE:
                break
        elif found:
            break
    return found[-1] if found else ""
