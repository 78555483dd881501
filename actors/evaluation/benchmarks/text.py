"""Mean NLL of plain text, in windows of 256 tokens that share no context.

Short windows give many independent pieces, and so an interval, from little text;
the price is a higher NLL than with a full context (SmolLM2-135M on the first 4,096
tokens of WikiText-2: 3.59 against 3.05 with windows of 1,024). Compare like with like.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from actors.evaluation.benchmarks.base import Materials, NotMeasured, TextNLL
from actors.evaluation.benchmarks.sources import Row, Source, read
from common import files
from common.errors import UserError

# Our own plain prose, for machines without a benchmark text.
PROSE = Path(__file__).parent / "prose.txt"
WIKITEXT2 = Source("wikitext2", "test", "Salesforce/wikitext", "wikitext-2-v1/test-*.parquet")

_WINDOW = 256


class Passage(Row):
    """A piece of the text."""

    text: str


def text_nll(materials: Materials) -> TextNLL:
    """The text that ``evaluator.text`` names, or packaged prose."""
    path = materials.settings.text or PROSE
    try:
        text = files.read_text(path)
    except UserError as error:
        raise NotMeasured(f"evaluator.text: {error}") from error
    return _benchmark("text_nll", materials, text, str(path))


def wikitext2(materials: Materials) -> TextNLL:
    """WikiText-2's test split (word-level tokens with <unk>, as the corpus writes them)."""
    rows = read(WIKITEXT2, materials.settings.data_root, Passage)
    return _benchmark("wikitext2", materials, "".join(row.text for row in rows), "WikiText-2")


def windows(token_ids: Sequence[int], limit: int, window: int) -> list[tuple[list[int], list[int]]]:
    """Cut the first ``limit`` tokens into (first token, rest) pairs of ``window`` tokens.

    Every token but the first of each window is scored once.
    """
    cut = list(token_ids[:limit])
    pieces = [cut[start : start + window] for start in range(0, len(cut), window)]
    return [(piece[:1], piece[1:]) for piece in pieces if len(piece) > 1]


def _benchmark(name: str, materials: Materials, text: str, source: str) -> TextNLL:
    tokens = materials.settings.text_tokens
    # A token has at most a few characters, so encoding a whole book is unnecessary.
    pieces = windows(materials.encode(text[: 16 * tokens]), tokens, _WINDOW)
    if not pieces:
        raise NotMeasured(f"{source} is too short")
    return TextNLL(name, pieces)
