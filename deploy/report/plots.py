"""The pictures of a report, as SVG: sharp on a phone, on paper and zoomed.

Each function takes the summaries of one or several runs and returns a picture, or None
if there is nothing to show.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from actors.evaluation.scores import BenchmarkScore, FisherAlignment
from deploy.report.batches_plot import batches
from deploy.report.drawing import BASE_COLOUR, Picture, as_picture, new_figure
from deploy.report.summary import RunSummary, StepFigures
from deploy.report.targets import MOST_NLLS


def pictures(runs: Sequence[RunSummary]) -> list[Picture]:
    """All pictures that these runs have numbers for, the most important first."""
    drawn = (
        _pareto(runs),
        *map(batches, runs),
        _nll_histogram(runs),
        _alignment(runs),
        _alignment_by_layer(runs),
        _errors(runs),
        _attempts(runs),
        _steps(
            runs,
            lambda step: step.loss,
            "Loss",
            "nats/token",
            "Training loss of each step.",
        ),
        _steps(
            runs,
            lambda step: step.tokens_per_second,
            "Learner throughput",
            "tokens/s",
            "Prompt and target tokens of a step, divided by its seconds.",
        ),
    )
    return [picture for picture in drawn if picture is not None]


def _pareto(runs: Sequence[RunSummary]) -> Picture | None:
    figure, axes = new_figure()
    shown = False
    for number, run in enumerate(runs):
        points = [
            (recall.value, one.retention.value, one.step)
            for one in run.checkpoints
            if one.retention is not None
            and isinstance(recall := one.scores.get("recall"), BenchmarkScore)
        ]
        if len(points) < 2:
            continue
        shown = True
        colour = f"C{number}"
        axes.plot(
            [point[0] for point in points],
            [point[1] for point in points],
            "o-",
            color=colour,
            label=run.run,
            markersize=4,
        )
        for *point, step in points:
            if step == run.chosen:
                axes.plot(*point, "o", color=colour, markersize=11, fillstyle="none")
            if step:
                axes.annotate(str(step), point, xytext=(4, 4), textcoords="offset points", size=7)
    axes.axhline(1.0, color=BASE_COLOUR, linewidth=0.8, linestyle="--")
    axes.set(xlabel="recall of the trained facts", ylabel="retention (base = 1)")
    axes.margins(0.08)
    return as_picture(
        "Recall and retention",
        "Each point is a checkpoint, labeled with its step; up and to the right is better. "
        f"Retention: mean of score / base score over {_kept(runs)}. The ring marks the selected "
        "checkpoint.",
        figure,
        shown,
    )


def _kept(runs: Sequence[RunSummary]) -> str:
    """The benchmarks behind the retention."""
    names = {
        name
        for run in runs
        for one in run.checkpoints
        if one.retention is not None
        for name in one.retention.benchmarks
    }
    return ", ".join(sorted(names))


def _nll_histogram(runs: Sequence[RunSummary]) -> Picture | None:
    figure, axes = new_figure()
    samples = [
        (f"targets of {run.run}", run.nlls.targets, run.target_nll, f"C{n}")
        for n, run in enumerate(runs)
    ]
    samples += [
        ("canonical answers", run.nlls.canonical, run.canonical_nll, BASE_COLOUR)
        for run in [run for run in runs if run.nlls.canonical][:1]
    ]
    values = [value for _, nlls, _, _ in samples for value in nlls]
    sampled = False
    if values:
        low, high = min(values), max(values)
        edges = [low + (high - low or 1.0) * at / 24 for at in range(25)]
        for label, nlls, mean, colour in samples:
            if mean is not None:
                sampled |= mean.items > len(nlls)
                bars = {"bins": edges, "weights": [mean.items / len(nlls)] * len(nlls)}
                axes.hist(nlls, **bars, histtype="stepfilled", alpha=0.3, color=colour)
                axes.hist(nlls, **bars, histtype="step", color=colour, label=label)
    axes.set(xlabel="nats/token under the base", ylabel="targets")
    return as_picture(
        "Target NLL under the base",
        "How unlikely the targets are under the base model: further left is closer to the base "
        "distribution."
        + (f" Of more than {MOST_NLLS:,} targets a random sample is counted." if sampled else ""),
        figure,
        bool(values),
    )


def _alignment(runs: Sequence[RunSummary]) -> Picture | None:
    figure, axes = new_figure()
    shown = False
    for number, run in enumerate(runs):
        points = [
            (one.step, fisher.alignment)
            for one in run.checkpoints
            if (fisher := one.analyses.alignment) is not None and fisher.alignment is not None
        ]
        if points:
            shown = True
            axes.plot(*zip(*points, strict=True), "o-", color=f"C{number}", label=run.run)
    axes.axhline(1.0, color=BASE_COLOUR, linewidth=0.8, linestyle="--")
    axes.set(xlabel="step", ylabel="alignment ratio")
    return as_picture(
        "Fisher alignment over training",
        "(D_F / ‖Δθ‖²) / (tr F / d), with D_F = Σ F Δθ² and F the base's diagonal empirical "
        "Fisher: 1 if the update ignores F, above 1 if it moves along directions that the "
        "held-out benchmarks are sensitive to.",
        figure,
        shown,
    )


def _alignment_by_layer(runs: Sequence[RunSummary]) -> Picture | None:
    figure, axes = new_figure()
    shown = False
    for number, run in enumerate(runs):
        layers = run.fisher.layers if isinstance(run.fisher, FisherAlignment) else {}
        bars = {
            name.removeprefix("layer "): layer.alignment
            for name, layer in layers.items()
            if layer.alignment is not None
        }
        if bars:
            shown = True
            axes.plot(list(bars), list(bars.values()), "o-", color=f"C{number}", label=run.run)
    axes.axhline(1.0, color=BASE_COLOUR, linewidth=0.8, linestyle="--")
    axes.set(xlabel="layer", ylabel="alignment ratio")
    axes.tick_params(axis="x", labelrotation=90, labelsize=7)
    return as_picture(
        "Fisher alignment by layer",
        "Of the selected checkpoint; each ratio is within its own layer.",
        figure,
        shown,
    )


def _errors(runs: Sequence[RunSummary]) -> Picture | None:
    figure, axes = new_figure()
    counts = {
        f"{run.run}: {suite}" if len(runs) > 1 else suite: score.errors
        for run in runs
        for suite, score in run.final.items()
        if isinstance(score, BenchmarkScore) and score.errors
    }
    kinds = sorted({kind for errors in counts.values() for kind in errors})
    left = dict.fromkeys(counts, 0)
    for kind in kinds:
        sizes = [errors.get(kind, 0) for errors in counts.values()]
        axes.barh(list(counts), sizes, left=list(left.values()), label=kind)
        left = {name: left[name] + size for name, size in zip(counts, sizes, strict=True)}
    axes.invert_yaxis()
    axes.set(xlabel="wrong responses")
    return as_picture(
        "Wrong responses by kind",
        "Of the selected checkpoint. format: no answer in the requested form; leakage: a trained "
        "name that the question does not mention; collapse: repetition, or nothing; outdated: an "
        "answer that a later batch has replaced; genuine: any other wrong answer. With "
        "evaluator.protocol paper: the classes of the paper.",
        figure,
        bool(counts),
    )


def _attempts(runs: Sequence[RunSummary]) -> Picture | None:
    figure, axes = new_figure()
    shown = [run for run in runs if run.accepted_by_attempt]
    for number, run in enumerate(runs):
        accepted = run.accepted_by_attempt
        total, so_far, reached = run.work, 0, []
        for attempt in range(1, max(accepted, default=0) + 1):
            so_far += accepted.get(attempt, 0)
            reached.append(so_far / total)
        if reached:
            axes.plot(range(1, len(reached) + 1), reached, "o-", color=f"C{number}", label=run.run)
    axes.set(xlabel="attempts", ylabel="share of targets", ylim=(0, 1.05))
    axes.xaxis.get_major_locator().set_params(integer=True)
    return as_picture(
        "Facts with a verified target",
        "Share of all targets that were found after this many attempts.",
        figure,
        bool(shown),
    )


def _steps(
    runs: Sequence[RunSummary],
    value: Callable[[StepFigures], float],
    title: str,
    unit: str,
    text: str,
) -> Picture | None:
    figure, axes = new_figure()
    for number, run in enumerate(runs):
        if run.steps:
            if run.steps_every > 1:
                text += f" One step of {run.run} in {run.steps_every} is shown."
            at = [step.step for step in run.steps]
            values = [value(step) for step in run.steps]
            axes.plot(at, values, color=f"C{number}", label=run.run, linewidth=1)
    axes.set(xlabel="step", ylabel=unit, ylim=(0, None))
    return as_picture(title, text, figure, any(run.steps for run in runs))
