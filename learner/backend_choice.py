"""Chooses the backend of a ZeRO stage; imports DeepSpeed only for stages that need it."""

from __future__ import annotations

from common.config.learner import LearnerSettings
from common.errors import UserError
from learner.backend import Backend
from learner.model import StudentModel


def create_backend(student: StudentModel, settings: LearnerSettings) -> Backend:
    """The backend for ``learner.zero_stage``.

    Raises:
        UserError: offload without a GPU.
    """
    groups = student.decay_groups(settings)
    if settings.offload != "none" and settings.resolved_device == "cpu":
        raise UserError(
            f"learner.offload is {settings.offload}, but this machine has no GPU to offload from; "
            "set it to none"
        )
    if settings.zero_stage == 0:
        from learner.unsharded import UnshardedBackend

        return UnshardedBackend(student, groups, settings)
    from learner.deepspeed_adapter import DeepSpeedBackend

    return DeepSpeedBackend(student, groups, settings)
