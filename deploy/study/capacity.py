"""How many cells of a study fit on this machine at once."""

from __future__ import annotations

from collections.abc import Sequence

from common.hardware import Hardware, detect
from deploy.study.cells import Cell


def num_at_once(cells: Sequence[Cell], hardware: Hardware | None = None) -> int:
    """As many as there are GPUs for, by the cell that needs most; on CPUs one, which has all cores.

    Args:
        cells: of the study.
        hardware: of the machine; None: this one.
    """
    here = hardware or detect()
    on_gpu = [cell for cell in cells if cell.config.engine.device != "cpu"]
    if not here.gpus or not on_gpu:
        return 1
    return max(1, here.gpus // max(cell.config.num_gpus() for cell in on_gpu))
