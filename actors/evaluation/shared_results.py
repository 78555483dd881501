"""Results of the base model that several runs share.

The keys of results name the weights and all that decides the scores, so a run finds what another
one has measured. The runs must compute alike: the key has no dtype and no device.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from actors.evaluation.results import EvaluatedModel, Results
from actors.evaluation.scores import Analyses, EvalResult, Response, Scores


class SharedResults(Results):
    """The results of one run; those of the base model are also in a folder that runs share.

    Args:
        folder: of the run. It has a copy of each shared result that it needs, so that the run
            can be read by itself.
        shared: folder of the base model's results, for all runs.
    """

    def __init__(self, folder: Path, shared: Path) -> None:
        super().__init__(folder)
        self._shared = Results(shared)

    def find(self, model: EvaluatedModel, suite: str, key: str) -> EvalResult | None:
        """The result of a model in a suite, if the run has one, or any run for the base."""
        found = super().find(model, suite, key)
        if found is not None or model.step > 0:
            return found
        found = self._shared.find(model, suite, key)
        if found is not None:
            super().write(
                *(model, suite, key, found.scores, self._shared.responses(found)),
                seconds=found.seconds,
                analyses=found.analyses,
            )
        return found

    def write(
        self,
        model: EvaluatedModel,
        suite: str,
        key: str,
        scores: Scores,
        responses: Sequence[Response] = (),
        *,
        seconds: float | None = None,
        analyses: Analyses | None = None,
    ) -> None:
        """Keep a result, see :meth:`Results.write`."""
        given = (model, suite, key, scores, responses)
        super().write(*given, seconds=seconds, analyses=analyses)
        if model.step == 0:
            self._shared.write(*given, seconds=seconds, analyses=analyses)

    @contextmanager
    def claim(self, model: EvaluatedModel, suite: str, key: str) -> Iterator[bool]:
        """Claim the work on one result, for the base before all runs."""
        if model.step == 0:
            with self._shared.claim(model, suite, key) as held:
                yield held
        else:
            with super().claim(model, suite, key) as held:
                yield held


def results_in(folder: Path, shared: Path) -> Results:
    """The results of a run; shared ones if the folder ``shared`` is there."""
    return SharedResults(folder, shared) if shared.is_dir() else Results(folder)
