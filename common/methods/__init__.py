"""Training methods: what targets a fact gets and which loss trains on them.

A method is one module here with one settings class. The rest of the system
asks it two things, :meth:`Method.target` (actors) and ``loss`` (learner), and
never branches on its name. To add one: write the module, list its class in
``MethodSettings``.
"""

from __future__ import annotations

from common.methods.base import Canonical, Method, Mixed, Student, Target
from common.methods.mixsd import MixSD
from common.methods.opsd import OPSD
from common.methods.sft import SFT

MethodSettings = MixSD | SFT | OPSD
METHODS: tuple[str, ...] = ("mixsd", "sft", "opsd")

__all__ = [
    "METHODS",
    "OPSD",
    "SFT",
    "Canonical",
    "Method",
    "MethodSettings",
    "MixSD",
    "Mixed",
    "Student",
    "Target",
]
