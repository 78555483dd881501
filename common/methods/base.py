"""The interface between a training method and the roles that execute it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from common.settings import Settings


@dataclass(frozen=True, slots=True)
class Mixed:
    """Draw each token from the naive conditional with probability ``mix_rate``, else the expert.

    ``protect_answer``: every token inside the fact's answer comes from the expert.
    """

    mix_rate: float
    protect_answer: bool = False


@dataclass(frozen=True, slots=True)
class Canonical:
    """Take the canonical answer y* of the corpus; no model runs."""


@dataclass(frozen=True, slots=True)
class StudentSampled:
    """Sample from the student, given the naive prompt x, ``samples`` times per epoch.

    Every rollout is trained once and none is rejected.
    """

    samples: int
    temperature: float
    top_p: float


Target = Mixed | Canonical | StudentSampled


@dataclass(frozen=True, slots=True)
class Selection:
    """Which accepted attempt of a fact's first ``samples`` is its target.

    ``likeliest``: all are drawn, and the accepted one with the lowest NLL per token under the
    reference given x is taken; if not, the first accepted one, and no further is drawn. Only if
    none is accepted do ``rollout.max_retries`` attempts follow, of which the first accepted is
    taken.
    """

    samples: int = 1
    likeliest: bool = False

    @property
    def num_compared(self) -> int:
        """Attempts that are drawn even if one before them is accepted."""
        return self.samples if self.likeliest else 1


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """A ``share`` of the targets are the reference's own answers to generic prompts.

    ``file``: has the prompts; None: the packaged ones.
    """

    share: float
    file: Path | None

    def num_prompts(self, facts: int) -> int:
        """Prompts beside so many facts: the nearest number to ``share`` of both."""
        return round(facts * self.share / (1 - self.share))

    def num_facts(self, items: int) -> int:
        """Facts among so many items; the inverse of :meth:`num_prompts`."""
        # Rounding moved the number of items by at most 1/2, so their facts by less.
        return round(items * (1 - self.share))


@dataclass(frozen=True, slots=True)
class NLL:
    """−log p(y_t) of the target tokens; needs no teacher."""

    @property
    def divergence(self) -> None:
        """None: there is nothing to compare with."""
        return None


Kind = Literal["forward", "reverse", "mixed", "jsd"]
Support = Literal["full", "top_k", "tail"]
TeacherPlace = Literal["learner", "engine"]
TeacherPrompt = Literal["expert", "naive"]
TeacherWeights = Literal["base", "live", "ema"]


@dataclass(frozen=True, slots=True)
class Divergence:
    """A divergence of the student, given x, from the teacher at each target token.

    ``kind``     forward KL(T‖S), reverse KL(S‖T), ``mixed``: ``weight`` · forward +
                 (1 − ``weight``) · reverse, or generalized JSD with β = ``weight``
    ``support``  the whole vocabulary; the teacher's ``top_k`` tokens, renormalized; or those and
                 one bucket for the ``tail``, the remaining mass of each distribution
    ``teacher``  a model in the learner, or the reference's engines, whose top-k
                 log-probabilities come with each rollout
    ``prompt``   what the teacher sees: x+ (``expert``), or x (``naive``)
    ``weights``  the teacher's: the reference's, the student's current ones (``live``), or a moving
                 average of these (``ema``), which keeps ``ema_decay`` of itself in each step
    """

    kind: Kind
    weight: float = 0.5
    support: Support = "full"
    top_k: int = 64
    teacher: TeacherPlace = "learner"
    prompt: TeacherPrompt = "expert"
    weights: TeacherWeights = "base"
    ema_decay: float = 0.99

    @property
    def divergence(self) -> Divergence:
        """Itself."""
        return self


@dataclass(frozen=True, slots=True)
class PenalizedNLL:
    """−log p(y_t) + ``strength`` · ``divergence`` at each target token."""

    strength: float
    divergence: Divergence


Loss = NLL | Divergence | PenalizedNLL


@dataclass(frozen=True, slots=True)
class WeightPenalty:
    """``strength`` / 2 · Σ_j F_j (θ_j − θ*_j)², once per step; θ* are the reference's weights.

    ``fisher``: folder of the reference's diagonal Fisher information (``common.fisher_folder``);
    None: every F_j is 1.
    """

    strength: float
    fisher: Path | None = None


@dataclass(frozen=True, slots=True)
class MemoryEdit:
    """A closed-form edit of MLP down-projections in place of gradient steps on all weights.

    ``layers``         first and last edited layer, from 0; None: five that end at 2/7 of the depth
    ``preserve``       weight λ of old keys, in units of the MLP's width
    ``gradient_steps`` steps of Adam that find each fact's new hidden state
    ``lr``             their learning rate, in units of the hidden state's RMS
    ``clamp``          largest change of a hidden state, in units of its norm
    ``decay``          weight of the squared relative change in the objective
    ``kl``             weight of the KL divergence on a neutral prompt about the subject
    ``text``           file that old keys are estimated on; None: samples of the base model
    ``tokens``         how many of its tokens
    """

    layers: tuple[int, int] | None
    preserve: float
    gradient_steps: int
    lr: float
    clamp: float
    decay: float
    kl: float
    text: Path | None
    tokens: int


class Method(Settings):
    """A training method and its settings."""

    name: str

    @property
    def loss(self) -> Loss:
        """The loss at the target tokens, and the teacher that it needs."""
        return NLL()

    @property
    def penalty(self) -> WeightPenalty | None:
        """What training pays for moving the weights, beside the loss."""
        return None

    @property
    def edit(self) -> MemoryEdit | None:
        """The edit that the learner makes of each batch; None: it takes gradient steps."""
        return None

    @property
    def draws_per_epoch(self) -> int:
        """Rollouts of each fact that are trained in one epoch."""
        return 1

    @property
    def draws_every_epoch(self) -> bool:
        """Whether each epoch has rollouts of its own; if not, all train those of the first."""
        return False

    @property
    def selection(self) -> Selection:
        """Which of a fact's accepted attempts is its target."""
        return Selection()

    @property
    def rehearsal(self) -> Rehearsal | None:
        """Generic prompts that are trained beside the facts; None: facts alone."""
        return None

    @property
    def expert_template(self) -> str | None:
        """The user turn that shows the fact to the expert; None: that of the prompt preset.

        Its slots are those of :class:`common.prompts.Prompts`.
        """
        return None

    def target(self, attempt: int) -> Target:
        """The kind of target that the given attempt (from 0) draws."""
        raise NotImplementedError

    def can_retry(self, attempt: int, temperature: float) -> bool:
        """Whether an attempt after the given one can differ from it."""
        raise NotImplementedError
