"""Whether the canonical targets of facts pass the run's own verifier.

Where they do not, the wording of the targets, the answers and the verifier do not fit each
other: supervised training teaches what recall then counts as wrong, and the expert, which is
shown the same text, hardly draws a target that verifies.
"""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from dataclasses import dataclass

from common.errors import UserError
from common.prompts import Prompts
from common.records import Fact
from common.verification.facts import is_right
from common.verification.verifier import Mode

MIN_SHARE = 0.95
# The mode "math" takes some milliseconds per fact.
MAX_CHECKED = 2000
_EXAMPLES = 3
_SHORT = reprlib.Repr()
_SHORT.maxstring = 80


@dataclass(frozen=True, slots=True)
class CanonicalCheck:
    """How many facts were checked, and (fact, canonical text) of each that failed."""

    mode: Mode
    checked: int
    failed: list[tuple[Fact, str]]

    @property
    def share(self) -> float:
        """Share of canonical targets that the verifier accepts; 1 if there are none."""
        return (self.checked - len(self.failed)) / self.checked if self.checked else 1.0

    @property
    def summary(self) -> str:
        """The share, as a line."""
        accepted = self.checked - len(self.failed)
        return f"canonical targets that {self.mode} accepts: {accepted} of {self.checked}"

    @property
    def problem(self) -> str:
        """Why a run with these facts is refused, with examples; empty if it is not."""
        if self.share >= MIN_SHARE:
            return ""
        cause = (
            f"the verifier {self.mode!r} accepts {100 * self.share:.1f} % of {self.checked} "
            f"canonical targets, less than {100 * MIN_SHARE:.0f} %: targets would not give the "
            "answers they are verified by; choose another preset in 'prompts' or another "
            "rollout.verify, or correct the data"
        )
        return "\n".join([cause, *map(_example, self.failed[:_EXAMPLES])])


def verify(prompts: Prompts, facts: Sequence[Fact]) -> CanonicalCheck:
    """Verify canonical texts: of all facts, or of 2,000 that are spread evenly.

    Facts with token ids are left out: their targets were drawn, and verified then.
    """
    own = [fact for fact in facts if fact.tokens is None]
    count = min(len(own), MAX_CHECKED)
    some = [own[index * len(own) // count] for index in range(count)]
    texts = [(fact, prompts.canonical_text(fact)) for fact in some]
    failed = [pair for pair in texts if not is_right(prompts.mode, pair[1], pair[0])]
    return CanonicalCheck(prompts.mode, count, failed)


def check(prompts: Prompts, facts: Sequence[Fact]) -> list[str]:
    """Reject facts of which the verifier accepts less than 95 % of the canonical targets.

    Returns:
        A remark if it does not accept all of them.

    Raises:
        UserError: names the share, the verifier and the remedy, with three examples.
    """
    found = verify(prompts, facts)
    if found.problem:
        raise UserError(found.problem)
    return [found.summary] if found.failed else []


def _example(failed: tuple[Fact, str]) -> str:
    fact, target = failed
    identity, answer, target = map(_SHORT.repr, (fact.id, fact.answer, target))
    return f"  fact {identity}: answer {answer}, target {target}"
