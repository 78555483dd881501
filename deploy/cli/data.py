"""Commands on corpora: build a published or generated one, check custom data."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deploy.cli.options import echo, reported

if TYPE_CHECKING:
    from common.corpora import Corpus

OUT = click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="A new or empty folder."
)
SEED = click.option("--seed", default=0, show_default=True, help="Seed of all random choices.")
WORDING = click.option(
    "--wording",
    type=click.Choice(["ours", "paper"]),
    default="ours",
    show_default=True,
    help="Texts; paper: as in the paper's released code.",
)
ROOT = click.option(
    "--data-root",
    type=click.Path(path_type=Path),
    help="Folder of offline copies, as ROOT/NAME/FILE[.gz]; default: the Hub.",
)
FILE = click.option("--file", help="Name of the file, if not the standard one.")


@click.group()
def data() -> None:
    """Build and check corpora."""


@data.group()
def build() -> None:
    """Write a corpus: one JSONL per split, and card.json with counts and hashes.

    The same arguments give the same bytes on any machine. Set data.facts
    to the folder to train on it.
    """


@build.command()
@click.option("--domains", default=5, show_default=True, help="Entity domains, 2..14.")
@click.option("--entities", default=10, show_default=True, help="Trained entities per domain.")
@click.option("--distractors", default=49, show_default=True, help="Maximum per context.")
@WORDING
@SEED
@OUT
@reported
def kgfact(
    domains: int, entities: int, distractors: int, wording: str, seed: int, out: Path
) -> None:
    """Facts of made-up entities; 5 x 10 gives 100, 7 x 25 gives 525."""
    arguments = {
        "domains": domains,
        "entities": entities,
        "distractors": distractors,
        "wording": wording,
        "seed": seed,
    }
    _build("kgfact", arguments, out)


@build.command()
@click.option("--train-per-op", default=1600, show_default=True, help="Facts per operation.")
@click.option("--test-per-op", default=175, show_default=True, help="Test items of each; or 25.")
@WORDING
@SEED
@OUT
@reported
def kgfunc(train_per_op: int, test_per_op: int, wording: str, seed: int, out: Path) -> None:
    """Procedures on digits, with worked solutions; twenty unseen ones."""
    arguments = {
        "train_per_op": train_per_op,
        "test_per_op": test_per_op,
        "wording": wording,
        "seed": seed,
    }
    _build("kgfunc", arguments, out)


@build.command()
@ROOT
@FILE
@OUT
@reported
def simpleqa(data_root: Path | None, file: str | None, out: Path) -> None:
    """SimpleQA's questions and answers."""
    _build("simpleqa", {} if file is None else {"file": file}, out, data_root)


@build.command()
@ROOT
@FILE
@OUT
@reported
def mquake(data_root: Path | None, file: str | None, out: Path) -> None:
    """MQuAKE's edits, and multi-hop questions that test them."""
    _build("mquake", {} if file is None else {"file": file}, out, data_root)


def _build(name: str, arguments: dict[str, Any], out: Path, root: Path | None = None) -> None:
    from common import corpora
    from common.config import run_config
    from common.corpora import folder

    settings = run_config.parse_data({name: arguments, "root": root})
    corpus = corpora.load(settings)
    # The card lists the arguments, not the local folder of the copies.
    requested = getattr(settings, name).model_dump(mode="json")
    card = folder.write(out, name, requested, _splits(corpus), corpus.remarks)
    for remark in corpus.remarks:
        echo(f"note: {remark}")
    for split, entry in card["splits"].items():
        echo(f"{split:12} {entry['count']:6}  sha256 {entry['sha256']}")
    echo(f"written to {out}")


def _splits(corpus: Corpus) -> dict[str, Any]:
    """All splits in the order in which they are listed: the trained one first."""
    from common.records import EvalItem

    splits: dict[str, Any] = {"train": corpus.facts}
    # Held-out test items of the same kind are more informative than the trained ones.
    if "test" not in corpus.splits:
        splits["recall"] = [EvalItem(fact.id, fact.question, fact.answer) for fact in corpus.facts]
    if corpus.retrieval:
        splits["retrieval"] = corpus.retrieval
    return splits | corpus.splits


@data.command()
@click.argument("facts")
@click.option("--model", help="Folder, Hub id or 'packaged': check lengths, show prompts.")
@click.option("--config", type=click.Path(path_type=Path), help="Run with the other settings.")
@click.option("--prompts", help="Prompt preset.  [default: kgfact]")
@click.option("--context", type=int, help="Context length of the engine, tokens.  [default: 2048]")
@click.option("--max-tokens", type=int, help="Longest target, tokens.  [default: 64]")
@click.option("--ask", is_flag=True, help="Find facts the model knows (loads an engine).")
@reported
def check(facts: str, config: Path | None, **options: Any) -> None:
    """Check FACTS (a file, folder or Hub id) before a run.

    Reports counts, duplicates, contradictory facts, token lengths and the
    prompts of three facts. Exits with 1 if 'up' would refuse the facts, or if
    a built corpus does not match its card.
    """
    from deploy.checks import data as datacheck
    from deploy.cli.terminal import Stages

    with Stages() as say:
        problems = datacheck.run(facts, datacheck.settings(config, **options), say)
    sys.exit(1 if problems else 0)
