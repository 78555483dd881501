"""A figure of a report, from blank axes to an SVG: sharp on a phone, on paper and zoomed."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

BASE_COLOUR = "#666666"


@dataclass(frozen=True, slots=True)
class Picture:
    """An SVG in base64; ``text`` describes what is shown and how to read it."""

    title: str
    text: str
    data: str


def new_figure() -> tuple[Any, Any]:
    """A figure and its blank axes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5.0, 3.3), layout="constrained")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.6)
    return figure, axes


def as_picture(title: str, text: str, figure: Any, shown: bool) -> Picture | None:
    """The figure as a picture, or None if it shows nothing; it is closed."""
    from matplotlib import pyplot

    if not shown:
        pyplot.close(figure)
        return None
    axes = figure.axes[0]
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc="outside upper left", ncols=3, frameon=False, fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    pyplot.close(figure)
    return Picture(title, text, base64.b64encode(buffer.getvalue()).decode())
