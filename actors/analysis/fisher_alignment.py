"""The base model's Fisher information over a fixed set of examples, computed once.

Lies in a cache folder named by the hashes of the weights and of the examples, so that
runs share it. The examples are dealt to a few parts, each a file of sums: evaluators
claim parts, a killed one loses no finished part, and the last one adds them up.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actors.evaluation import benchmarks
from actors.evaluation.benchmarks.base import (
    Benchmark,
    Generation,
    Materials,
    MultipleChoice,
    NotMeasured,
)
from actors.evaluation.results import EvaluatedModel, Results
from actors.evaluation.scores import Analyses, FisherAlignment, FisherFigures, Unmeasured
from actors.inference.gpu_memory import free_cached
from common import fisher_folder, models
from common.config.evaluation import HELD_OUT, FisherSettings
from common.config.sections import resolve_device
from common.rundir import read_json, write_atomic

if TYPE_CHECKING:
    from actors.analysis.fisher import Movement

# Raise with a change of what F is made of: what is in the caches is another F then.
_VERSION = 1

Tell = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Examples:
    """Token sequences (prompt and gold answer), of how many of which benchmark."""

    token_ids: tuple[tuple[int, ...], ...]
    benchmarks: dict[str, int]


def draw_examples(materials: Materials, settings: FisherSettings) -> Examples:
    """Equal numbers, drawn by seed, from the held-out benchmarks of the run's suites.

    A benchmark that cannot be had here gives none, a short one what it has. Sequences
    are cut to their last ``max_tokens``.

    Raises:
        NotMeasured: none of the suites has any.
    """
    wanted = {
        member
        for suite in materials.settings.names
        for member in benchmarks.members(suite, materials)
    }
    # IFEval has checks where others have gold answers.
    names = [name for name in HELD_OUT if name in wanted and name != "ifeval"]
    if not names:
        raise NotMeasured("evaluator.suites has no benchmark outside the run's own corpus")
    each = -(-settings.examples // len(names))
    alone = materials.settings.model_copy(update={"limit": each})
    drawn: list[tuple[int, ...]] = []
    counts: dict[str, int] = {}
    for name in names:
        try:
            found = _golds(benchmarks.BUILDERS[name](replace(materials, settings=alone)), materials)
        except NotMeasured:
            continue
        # Windows of a text are not questions from which a limit has drawn.
        rng = random.Random(f"{materials.seed}:fisher:{name}")
        chosen = rng.sample(found, min(each, len(found), settings.examples - len(drawn)))
        if chosen:
            drawn += [tuple(ids[-settings.max_tokens :]) for ids in chosen]
            counts[name] = len(chosen)
    if not drawn:
        raise NotMeasured(f"none of {', '.join(names)} can be had here")
    return Examples(tuple(drawn), counts)


def _golds(benchmark: Benchmark, materials: Materials) -> list[list[int]]:
    if isinstance(benchmark, Generation):
        return [
            [*question.prompt, *materials.encode(question.answer)]
            for question in benchmark.questions
        ]
    if isinstance(benchmark, MultipleChoice):
        return [
            materials.encode(f"{item.text} {item.choices[item.gold]}") for item in benchmark.items
        ]
    return [[*first, *rest] for first, rest in benchmark.windows]


class BaseFisher:
    """F of one base model over one set of examples.

    Args:
        base: the reference weights.
        examples: of :func:`draw_examples`.
        settings: the section ``evaluator.fisher``.
        tell: receives (examples done, examples in all) while a part is computed.
        make_room: called before the base model is loaded with its gradients, which then leaves
            the device after each part; None: there is room, and it stays.
    """

    def __init__(
        self,
        base: EvaluatedModel,
        examples: Examples,
        settings: FisherSettings,
        tell: Tell = lambda done, total: None,
        make_room: Callable[[], None] | None = None,
    ) -> None:
        self._base = base
        self._make_room = make_room
        self._settings = settings
        self._tell = tell
        self._model: Any = None
        self.examples = examples
        cache = settings.cache or models.default_cache() / "fisher"
        parts = json.dumps([_VERSION, settings.dtype, examples.token_ids])
        self.key = hashlib.sha256(parts.encode()).hexdigest()[:16]
        self.folder = cache / f"{base.weights}-{self.key}"
        self._parts = min(settings.parts, len(examples.token_ids))
        self.pieces = self.folder / fisher_folder.PIECES
        self._claims = Results(self.folder)

    @property
    def ready(self) -> bool:
        """Whether F is there, whole."""
        return read_json(self.folder / fisher_folder.FACTS) is not None

    def advance(self) -> tuple[bool, bool]:
        """Compute one part, or add the parts up: (whether one was, whether others hold some)."""
        self.folder.mkdir(parents=True, exist_ok=True)
        held_elsewhere = False
        for part in range(self._parts):
            if self._path(part).exists():
                continue
            with self._claim(f"part-{part}") as held:
                held_elsewhere |= not held
                if held and not self._path(part).exists() and not self.ready:
                    self._compute(part)
                    return True, held_elsewhere
        if held_elsewhere:
            return False, True
        self._model = None
        with self._claim("sum") as held:
            if held and not self.ready:
                self._add_up()
            return held, not held

    def _claim(self, work: str) -> Any:
        return self._claims.claim(self._base, work, self.key)

    def _path(self, part: int) -> Path:
        return self.folder / f"part-{part}-of-{self._parts}.safetensors"

    def _compute(self, part: int) -> None:
        import torch
        from safetensors.torch import save_file

        from actors.analysis.fisher import SquaredGradients, log_likelihood

        if self._model is None:
            if self._make_room is not None:
                self._make_room()
            self._model = self._load()
        mine = self.examples.token_ids[part :: self._parts]
        gradients = SquaredGradients(self._model)
        try:
            with torch.enable_grad():
                for number, token_ids in enumerate(mine, 1):
                    gradients.add(log_likelihood(self._model, token_ids))
                    self._tell(number, len(mine))
        finally:
            gradients.close()
            if self._make_room is not None:
                self._model = None
                free_cached()
        temporary = self.folder / f".part-{part}.{os.getpid()}.tmp"
        save_file(gradients.sums, temporary)
        os.replace(temporary, self._path(part))

    def _load(self) -> Any:
        import torch
        from transformers import AutoModelForCausalLM

        device = resolve_device(self._settings.device)
        dtype = {"bfloat16": torch.bfloat16, "float32": torch.float32}[self._settings.dtype]
        model = AutoModelForCausalLM.from_pretrained(
            self._base.folder, dtype=dtype, trust_remote_code=False
        )
        return model.to(device).eval()

    def _add_up(self) -> None:
        from safetensors import safe_open

        from actors.analysis.fisher import save_in_pieces

        files = [safe_open(self._path(part), "pt") for part in range(self._parts)]
        count = len(self.examples.token_ids)

        def means() -> Iterator[tuple[str, Any]]:
            for name in files[0].offset_keys():
                total = files[0].get_tensor(name)
                for file in files[1:]:
                    total += file.get_tensor(name)
                yield name, total / count

        shutil.rmtree(self.pieces, ignore_errors=True)
        self.pieces.mkdir()
        save_in_pieces(means(), self.pieces)
        facts = fisher_folder.FisherFacts(
            weights=self._base.weights, benchmarks=self.examples.benchmarks, examples=count
        )
        write_atomic(self.folder / fisher_folder.FACTS, json.dumps(facts.to_json()))
        # Of any number of parts, and what a killed evaluator was writing.
        for path in (*self.folder.glob("part-*"), *self.folder.glob(".part-*.tmp")):
            path.unlink(missing_ok=True)


class Alignment:
    """Measures how far each checkpoint moved along the base's Fisher; newest first."""

    name = "fisher"

    def __init__(self, fisher: BaseFisher, base: EvaluatedModel, results: Results) -> None:
        self._fisher = fisher
        self._base = base
        self._results = results

    def advance(self, checkpoints: Sequence[EvaluatedModel], final: bool) -> tuple[bool, bool]:
        """One piece of work: (whether one was done, whether others hold some)."""
        if not self._fisher.ready:
            return self._fisher.advance()
        held_elsewhere = False
        for model in sorted(checkpoints, key=lambda one: one.step, reverse=True):
            wanted = (model, self.name, self._fisher.key)
            if model.weights == self._base.weights or self._results.find(*wanted) is not None:
                continue
            with self._results.claim(*wanted) as held:
                held_elsewhere |= not held
                if held and self._results.find(*wanted) is None:
                    began = time.monotonic()
                    analyses = Analyses(fisher=self._measure(model))
                    seconds = round(time.monotonic() - began, 3)
                    self._results.write(*wanted, {}, seconds=seconds, analyses=analyses)
                    return True, held_elsewhere
        return False, held_elsewhere

    def _measure(self, model: EvaluatedModel) -> FisherAlignment | Unmeasured:
        from actors.analysis.fisher import Movement, movements

        try:
            by_layer = movements(self._fisher.pieces, self._base.folder, model.folder)
        except ValueError as error:
            return Unmeasured(not_measured=str(error))
        return FisherAlignment(
            **_figures(sum(by_layer.values(), Movement())).to_json(),
            examples=len(self._fisher.examples.token_ids),
            benchmarks=self._fisher.examples.benchmarks,
            layers={layer: _figures(moved) for layer, moved in by_layer.items()},
        )


def _figures(moved: Movement) -> FisherFigures:
    return FisherFigures(
        alignment=moved.alignment,
        weighted=moved.weighted,
        raw=moved.raw,
        trace=moved.trace,
        size=moved.size,
    )
