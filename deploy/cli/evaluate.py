"""Commands on checkpoints: measure one, read what it answered."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deploy.cli.options import echo, reported

if TYPE_CHECKING:
    from actors.evaluation.results import EvaluatedModel, Results
    from actors.evaluation.scores import EvalResult, Response
    from common.config.run_config import RunConfig

# Settings that let foreign code run: only the command line, or a file named there, sets them.
_TRUST = ("engine.trust_remote_code", "evaluator.unsafe_code")

SUITE = click.option(
    "--suite", default="small", show_default=True, help="A suite or a single benchmark."
)
OUT = click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder of results; a run's checkpoint has its run's, else 'evaluations'.",
)


class _Group(click.Group):
    """``eval CKPT`` is ``eval run CKPT``."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        return super().resolve_command(ctx, args if args[0] in self.commands else ["run", *args])


@click.group("eval", cls=_Group)
def evaluate() -> None:
    """Measure a checkpoint ('eval CKPT'), or read its responses ('eval show CKPT').

    CKPT is a checkpoint's folder, any model folder, a Hub id, or 'packaged'.
    """


@evaluate.command()
@click.argument("checkpoint", metavar="CKPT")
@SUITE
@click.option("--limit", type=click.IntRange(min=1), help="Items of each benchmark.")
@click.option("--set", "overrides", multiple=True, metavar="A.B=C", help="Override a setting.")
@click.option("--config", type=click.Path(path_type=Path), help="Configuration to take.")
@OUT
@reported
def run(
    checkpoint: str,
    suite: str,
    limit: int | None,
    overrides: tuple[str, ...],
    config: Path | None,
    out: Path | None,
) -> None:
    """Measure CKPT with one engine in this process."""
    from common.config.auto import settle
    from common.hardware import detect

    if limit is not None:
        overrides = (*overrides, f"evaluator.limit={limit}")
    written = _settings(checkpoint, config, (*overrides, f"evaluator.suites=[{suite}]"))
    settings = settle(written, detect())
    chosen = _evaluated_model(checkpoint)
    results = _results(checkpoint, out)
    measured = _measure(settings, chosen, results)
    _print_scores(measured)


@evaluate.command()
@click.argument("checkpoint", metavar="CKPT")
@SUITE
@click.option("--benchmark", help="Only this one.")
@click.option("--wrong", is_flag=True, help="Only wrong responses.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True)
@OUT
@reported
def show(
    checkpoint: str, suite: str, benchmark: str | None, wrong: bool, limit: int, out: Path | None
) -> None:
    """Print the responses of CKPT in a suite, and what is wrong with them."""
    from common.errors import UserError

    chosen = _evaluated_model(checkpoint)
    results = _results(checkpoint, out)
    found = [one for one in results.all() if one.weights == chosen.weights and one.suite == suite]
    if not found:
        raise UserError(
            f"{checkpoint}: no results of suite {suite!r}; "
            f"run 'mixsd-cluster eval {checkpoint} --suite {suite}' first"
        )
    _print_scores(found[-1])
    responses = [
        one
        for one in results.responses(found[-1])
        if one.right is not None
        and (benchmark is None or one.benchmark == benchmark)
        and not (wrong and one.right)
    ]
    for one in responses[:limit]:
        echo(_response_text(one))
    echo(f"{min(limit, len(responses))} of {len(responses)} responses")


def _settings(checkpoint: str, config: Path | None, overrides: tuple[str, ...]) -> RunConfig:
    """The given configuration, that of the checkpoint's run, or one with the defaults."""
    from common.config import run_config

    run = _run_of(checkpoint)
    if config is not None:
        return run_config.load(config, overrides)
    if run is not None:
        return _found_settings(run / "config.yaml", overrides)
    raw: dict[str, Any] = {"name": "eval", "model": checkpoint, "method": {"name": "sft"}}
    for override in overrides:
        run_config.apply(raw, override)
    if "data" not in raw:
        raw["data"] = {"kgfact": {}}
    return run_config.parse(raw, "eval")


def _found_settings(config: Path, overrides: tuple[str, ...]) -> RunConfig:
    """The configuration that a checkpoint came with, which does not decide what is trusted.

    What was trained on a GPU can be measured on a CPU.
    """
    from common.config import run_config
    from common.hardware import detect

    given = tuple(f"{key}=false" for key in _TRUST)
    if run_config.load(config).engine.device == "cuda" and detect().device == "cpu":
        given += ("engine.device=cpu", "engine.dtype=auto")
    settings = run_config.load(config, (*given, *overrides))
    asked = run_config.load(config, overrides)
    for key in _TRUST:
        section, name = key.split(".")
        if getattr(getattr(asked, section), name) != getattr(getattr(settings, section), name):
            echo(
                f"{config}: {key} is true there, but a file that comes with a checkpoint is not "
                f"trusted; if you trust it, add --set {key}=true",
                err=True,
            )
    return settings


def _run_of(checkpoint: str) -> Path | None:
    """The run folder that a checkpoint lies in."""
    run = Path(checkpoint).resolve().parent.parent
    return run if (run / "config.yaml").is_file() else None


def _evaluated_model(checkpoint: str) -> EvaluatedModel:
    from actors.evaluation.results import EvaluatedModel
    from common import models
    from common.weights import folder_hash, weights_hash
    from learner.checkpoint import CheckpointDamaged, read_manifest

    folder = models.resolve(checkpoint, say=echo)
    try:
        manifest = read_manifest(folder)
    except CheckpointDamaged:
        # Not a checkpoint of a run, or under another name.
        return EvaluatedModel(0, folder, folder_hash(folder))
    return EvaluatedModel(manifest.step, folder, weights_hash(manifest.files))


def _results(checkpoint: str, out: Path | None) -> Results:
    from actors.evaluation.results import Results

    run = _run_of(checkpoint)
    folder = out or (run / "eval" if run is not None else Path("evaluations"))
    folder.mkdir(parents=True, exist_ok=True)
    return Results(folder)


def _measure(settings: RunConfig, chosen: EvaluatedModel, results: Results) -> EvalResult:
    """The result that is there, or a new one."""
    from actors.evaluation.evaluator import Evaluator, materials_for
    from actors.evaluation.runner import Progress, build_suite
    from common import corpora, models
    from common.errors import RunError
    from deploy.cli.terminal import Bar, Stages
    from deploy.factories import prompts_for

    model = models.load(chosen.folder)
    prompts = prompts_for(settings, model)
    corpus = corpora.load(settings.data, settings.earlier)
    materials = materials_for(model, prompts, corpus, settings.evaluator, settings.seed)
    (suite,) = (build_suite(name, materials) for name in settings.evaluator.names)
    wanted = (chosen, suite.name, suite.key)
    known = results.find(*wanted)
    if known is not None:
        return known
    for name, reason in suite.missing.items():
        echo(f"{name} is not measured: {reason}", err=True)
    with results.claim(*wanted) as free:
        if not free:
            echo("another evaluator measures this already; waiting for it", err=True)
    log = results.folder / "engine.log"
    with Stages() as say:
        say(f"starting the engine (its log: {log}) …")
        engine = _engine(settings, model, log)
    with Bar() as bar, contextlib.closing(engine):

        def show(progress: Progress) -> None:
            bar.show(progress.benchmark, progress.done, progress.total)

        evaluator = Evaluator(engine, chosen.weights, materials, results, lambda: [chosen], show)
        evaluator.drain()
        evaluator.run()
    measured = results.find(*wanted)
    if measured is None:
        raise RunError("the evaluation ended without a result")
    return measured


def _engine(settings: RunConfig, model: Any, log: Path) -> Any:
    """A warm engine; its start-up output goes to ``log``."""
    import os

    from deploy.factories import limit_threads

    limit_threads(settings)
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    # Below Python's streams: compiled code writes too.
    kept = [(stream, os.dup(stream)) for stream in (1, 2)]
    try:
        for stream, _ in kept:
            os.dup2(descriptor, stream)
        from actors.inference.engine import Engine

        return Engine(
            model.folder,
            settings.evaluator_engine,
            max_requests=settings.evaluator.slots,
            stop_token_ids=model.stop_token_ids,
        )
    finally:
        for stream, copy in kept:
            os.dup2(copy, stream)
            os.close(copy)
        os.close(descriptor)


def _print_scores(result: EvalResult) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from actors.evaluation.scores import Unmeasured
    from common.printable import printable
    from deploy.report.graders import expand

    def row(*cells: str) -> None:
        table.add_row(*(Text(printable(cell)) for cell in cells))

    table = Table("benchmark", "score", "95 % interval", "n", "seconds", "wrong: class and count")
    for name, score in expand(result.scores).items():
        if isinstance(score, Unmeasured):
            row(name, "not measured", score.not_measured)
            continue
        errors = ", ".join(f"{kind} {count}" for kind, count in score.errors.items())
        unit = " nats/token" if score.unit == "nats/token" else ""
        row(
            name,
            f"{score.value:.3f}{unit}",
            f"{score.low:.3f} to {score.high:.3f}",
            str(score.n),
            # Another grader's score is of the same responses.
            f"{score.seconds:.1f}" if name in result.scores else "",
            errors,
        )
    echo(
        f"step {result.step}, weights {result.weights}, suite {result.suite} "
        f"({result.suite_hash}), {result.seconds:.1f} s"
    )
    Console().print(table)


def _response_text(one: Response) -> str:
    grade = "right" if one.right else f"wrong ({one.error or 'other choice'})"
    lines = [f"--- {one.benchmark} {one.id}: {grade}", f"question  {one.question}"]
    lines += [f"expected  {one.answer}", f"response  {one.response}"]
    if one.extracted not in (None, one.response.strip()):
        lines.append(f"extracted {one.extracted}")
    if one.verdicts:
        graded = (f"{name} {'right' if right else 'wrong'}" for name, right in one.verdicts.items())
        lines.append(f"graders   {', '.join(graded)}")
    if one.detail:
        lines.append(f"detail    {one.detail}")
    return "\n".join(lines)
