"""Training methods: what targets a fact gets and which loss trains on them.

A method is one module here with one settings class. The rest of the system uses
its members, :meth:`Method.target` (actors), ``loss``, ``penalty`` and ``edit`` (learner), and
never branches on its name. To add a method, write the module and list its class
in ``MethodSettings``.
"""

from __future__ import annotations

from typing import get_args

from common.methods.anchored import EWC, L2SP
from common.methods.base import (
    NLL,
    Canonical,
    Divergence,
    Loss,
    MemoryEdit,
    Method,
    Mixed,
    PenalizedNLL,
    Rehearsal,
    Selection,
    StudentSampled,
    Target,
    WeightPenalty,
)
from common.methods.best_of_n import BestOfN
from common.methods.context_distill import ContextDistill
from common.methods.distillation import Distillation
from common.methods.kl_sft import KLSFT
from common.methods.memit import MEMIT
from common.methods.mixsd import MixSD
from common.methods.opsd import OPSD
from common.methods.rehearsal import OwnAnswers, RehearsedSFT
from common.methods.sdft import SDFT
from common.methods.sft import SFT

MethodSettings = (
    MixSD | SFT | OPSD | ContextDistill | KLSFT | L2SP | EWC | SDFT | BestOfN | RehearsedSFT | MEMIT
)
METHODS: tuple[str, ...] = tuple(
    method.model_fields["name"].default for method in get_args(MethodSettings)
)

__all__ = [
    "EWC",
    "KLSFT",
    "L2SP",
    "MEMIT",
    "METHODS",
    "NLL",
    "OPSD",
    "SDFT",
    "SFT",
    "BestOfN",
    "Canonical",
    "ContextDistill",
    "Distillation",
    "Divergence",
    "Loss",
    "MemoryEdit",
    "Method",
    "MethodSettings",
    "MixSD",
    "Mixed",
    "OwnAnswers",
    "PenalizedNLL",
    "Rehearsal",
    "RehearsedSFT",
    "Selection",
    "StudentSampled",
    "Target",
    "WeightPenalty",
]
