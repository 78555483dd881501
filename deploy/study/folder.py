"""The folder of a study: what it was started with, and where its parts are.

``study.json``   the study as it was started: its cells with their configurations
``cells/NAME/``  the folder of each cell's run
``base/``        results of base models that cells share
``logs/``        of the Ray head that all cells use
``report.html``  with its numbers in ``report.json`` and ``report.csv``, and ``tables/``
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from common.config import run_config
from common.errors import UserError
from common.rundir import RunDir, read_json, write_atomic
from deploy.study import grid, settings
from deploy.study.cells import CELLS, Cell

_FILE = "study.json"


@dataclass(frozen=True, slots=True)
class Study:
    """A study whose cells are known.

    Args:
        name: of its folder.
        cells: in the order in which they start.
        lr_seeds: seeds at which all learning rates are tried; None: all.
        at_once: cells that run at once; None: as many as there are GPUs for.
    """

    name: str
    cells: tuple[Cell, ...]
    lr_seeds: tuple[str, ...] | None = None
    at_once: int | None = None


def read(path: Path) -> Study:
    """The study that the file ``path`` describes.

    Raises:
        UserError: it is invalid, or one of its cells.
    """
    written = settings.load(path)
    seeds = written.lr_seeds
    return Study(
        name=written.name,
        cells=tuple(grid.expand(written, path)),
        lr_seeds=None if seeds is None else tuple(map(str, seeds)),
        at_once=None if written.at_once == "auto" else written.at_once,
    )


def save(study: Study, folder: Path) -> None:
    """Record a study that starts or goes on; it may have other cells than before."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name in ("logs", CELLS):
        (folder / name).mkdir(exist_ok=True, mode=0o700)
    content = {
        "name": study.name,
        "lr_seeds": study.lr_seeds,
        "at_once": study.at_once,
        "cells": [
            {
                "name": cell.name,
                "factors": dict(cell.factors),
                "config": cell.config.model_dump(mode="json"),
            }
            for cell in study.cells
        ],
    }
    write_atomic(folder / _FILE, json.dumps(content, indent=1))


def load(folder: Path) -> Study:
    """The study that was started in ``folder``.

    Raises:
        UserError: there is none.
    """
    path = folder / _FILE
    content = read_json(path)
    if content is None:
        known = sorted(one.parent.name for one in folder.parent.glob(f"*/{_FILE}"))
        raise UserError(
            f"no study {folder.name!r} in {folder.parent}; there are: {', '.join(known) or 'none'}"
        )
    seeds = content["lr_seeds"]
    return Study(
        name=content["name"],
        cells=tuple(
            Cell(
                one["name"],
                one["factors"],
                run_config.parse(one["config"], f"{path}: {one['name']}"),
            )
            for one in content["cells"]
        ),
        lr_seeds=None if seeds is None else tuple(seeds),
        at_once=content["at_once"],
    )


def head_of(folder: Path) -> RunDir:
    """Where the study's Ray head is described, as that of a run is."""
    return RunDir(folder)
