"""ARC-Easy and PIQA: the continuation that the model finds likeliest.

Plain text without a chat template, ``Question: …\\nAnswer:`` and the choice after
a space, as in lm-evaluation-harness; the log-likelihood is divided by the
choice's length in characters (its ``acc_norm``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from actors.evaluation.benchmarks.base import Choice, Materials, MultipleChoice, NotMeasured
from actors.evaluation.benchmarks.sources import DatasetRecord, Source, read

ARC_EASY = Source("arc", "ARC-Easy-test", "allenai/ai2_arc", "ARC-Easy/test-*.parquet")
PIQA = Source("piqa", "piqa_valid", "baber/piqa", "*validation*")


def arc_easy(materials: Materials) -> MultipleChoice:
    """ARC-Easy test, 2,376 questions."""
    return _build("arc_easy", materials, ARC_EASY, _arc)


def piqa(materials: Materials) -> MultipleChoice:
    """PIQA validation, 1,838 questions."""
    return _build("piqa", materials, PIQA, _piqa)


def likeliest(choices: Sequence[str], logprobs: Sequence[Sequence[float]]) -> int:
    """Index of the choice whose log-likelihood per character is highest; the first of equals."""
    rates = [sum(of) / len(choice) for choice, of in zip(choices, logprobs, strict=True)]
    return max(range(len(rates)), key=rates.__getitem__)


def pairs(item: Choice, encode: Callable[[str], list[int]]) -> list[tuple[list[int], list[int]]]:
    """(context ids, continuation ids) of each choice.

    Context and continuation are encoded together, so that the boundary is where
    the tokenizer puts it in running text.
    """
    context = encode(item.text)
    found = []
    for choice in item.choices:
        whole = encode(f"{item.text} {choice}")
        found.append((whole[: len(context)], whole[len(context) :]))
    return found


def _build(
    name: str, materials: Materials, source: Source, parse: Callable[[str, DatasetRecord], Choice]
) -> MultipleChoice:
    records = read(source, materials.settings.data_root)
    try:
        items = [parse(f"{name}-{number}", record) for number, record in enumerate(records)]
    except (KeyError, TypeError, ValueError) as error:
        raise NotMeasured(f"{name}: records have other fields than expected ({error!r})") from error
    return MultipleChoice(name, materials.subset(name, items))


def _arc(name: str, record: DatasetRecord) -> Choice:
    choices = record["choices"]
    if isinstance(choices, dict):
        texts, gold = choices["text"], list(choices["label"]).index(record["answerKey"])
    else:
        texts, gold = choices, record["answer_index"]
    return Choice(name, f"Question: {record['question']}\nAnswer:", tuple(texts), int(gold))


def _piqa(name: str, record: DatasetRecord) -> Choice:
    if "goal" in record:
        question, choices = f"Question: {record['goal']}\n", (record["sol1"], record["sol2"])
        return Choice(name, f"{question}Answer:", choices, int(record["label"]))
    return Choice(name, f"{record['query']}Answer:", tuple(record["choices"]), int(record["gold"]))
