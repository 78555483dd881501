"""The picture of a chain of runs: recall of each batch, and retention, after each run."""

from __future__ import annotations

from deploy.report.drawing import BASE_COLOUR, Picture, as_picture, new_figure
from deploy.report.summary import RunSummary


def batches(run: RunSummary) -> Picture | None:
    """A line for each batch over the runs since it was taught; None if the run continues none."""
    if not run.links:
        return None
    figure, axes = new_figure()
    at = range(1, len(run.links) + 1)
    for batch in at:
        points = [
            (number, link.recall[batch].value)
            for number, link in zip(at, run.links, strict=True)
            if batch in link.recall
        ]
        if points:
            axes.plot(*zip(*points, strict=True), "o-", label=f"batch {batch}", markersize=4)
    for label, style, values in (
        ("edited", "^:", [link.edited for link in run.links]),
        ("retracted", "v-.", [link.retracted for link in run.links]),
        ("retention", "s--", [link.retention for link in run.links]),
    ):
        known = [(number, of.value) for number, of in zip(at, values, strict=True) if of]
        if known:
            axes.plot(
                *zip(*known, strict=True), style, label=label, color=BASE_COLOUR, markersize=4
            )
    axes.set(xlabel="after run", ylabel="share", ylim=(-0.03, None))
    axes.set_xticks(list(at), [link.run for link in run.links])
    return as_picture(
        f"Batches up to {run.run}",
        "At the selected checkpoint of each run of the chain: recall of the facts of each batch "
        "that still hold then; edited: facts of earlier batches with a new answer that get it; "
        "retracted: facts whose old answer is not given; "
        "retention: mean of score / score of the original base, over the benchmarks outside the "
        "corpus.",
        figure,
        any(link.recall for link in run.links),
    )
