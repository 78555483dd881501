"""The folder of a model's diagonal Fisher information: safetensors, and what they are of.

``pieces/*.safetensors`` hold F in float32, named and shaped as the weights; ``fisher.json``, which
is written last, names these weights. Evaluators compute it (``evaluator.fisher``); a method may
train with it.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from common import files
from common.errors import UserError, invalid_value
from common.json_model import JsonModel
from common.weights import folder_hash

FACTS, PIECES = "fisher.json", "pieces"


class FisherFacts(JsonModel):
    """What a folder is of: the hash of the weights, and the number of examples by benchmark."""

    weights: str
    benchmarks: dict[str, int]
    examples: int


def check(folder: Path, model_dir: Path) -> FisherFacts:
    """What ``folder`` is of, if that is ``model_dir``; hashes the model's weights.

    Raises:
        UserError: the folder is missing, incomplete, or of other weights.
    """
    facts = read(folder)
    weights = folder_hash(model_dir)
    if facts.weights != weights:
        raise UserError(
            f"method.fisher is {folder}, the Fisher information of weights {facts.weights}, but "
            f"model {model_dir} has weights {weights}; {_REMEDY}"
        )
    return facts


def read(folder: Path) -> FisherFacts:
    """What ``folder`` is of.

    Raises:
        UserError: the folder is missing or incomplete.
    """
    path = folder / FACTS
    if not path.is_file():
        raise UserError(
            f"method.fisher is {folder}, but there is no {FACTS} in it, which completes a folder "
            f"of Fisher information; {_REMEDY}"
        )
    try:
        return FisherFacts.model_validate(files.read_json(path))
    except ValidationError as error:
        raise UserError(f"{path}: {invalid_value(error.errors()[0])}") from error


_REMEDY = (
    "a run of the same model with --set evaluator.fisher={} computes one, and keeps it in "
    "~/.cache/mixsd-cluster/fisher/WEIGHTS-EXAMPLES (or under evaluator.fisher.cache)"
)
