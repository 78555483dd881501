"""The student's rollouts on a fake engine that finishes in any order."""

import numpy as np
import pytest

from actors.decoding.attempt import ScoredTarget
from actors.decoding.mixed_decoder import MixedDecoder
from actors.decoding.picks import student_seed
from actors.decoding.teacher_top_k import teacher_scores
from actors.inference.requests import EngineOutput, TopLogprobs
from actors.replay.replies import Grant
from actors.rollout.student import StudentRolloutActor
from common.config.sections import RolloutSettings
from common.methods import OPSD
from common.records import Work
from common.verification.verifier import accepts
from tests.actors.rollout.letters import (
    FACTS,
    MAX_TOKENS,
    STOP,
    AnyOrderEngine,
    next_token,
    prompts,
)


class Actor(StudentRolloutActor):
    """Polls at once: a queue in this process has its answer ready."""

    idle_s = 0.0


class Weights:
    """Versions that appear when the queue sets them."""

    def __init__(self, engine_is_idle):
        self.version, self.newest, self.seconds = None, None, {}
        self._engine_is_idle = engine_is_idle

    def is_behind(self):
        return self.newest != self.version

    def load(self):
        assert self._engine_is_idle()
        self.version = self.newest


class Queue:
    """Grants two samples of each fact; publishes version 1 once half of them were granted."""

    def __init__(self, weights):
        self._weights = weights
        self._work = [
            Work(2 * at + draw, name, draw) for at, name in enumerate(FACTS) for draw in (0, 1)
        ]
        self.rollouts, self.granted, self._calls = [], [], 0

    def lease(self, owner, count, holding, version):
        self._calls += 1
        if self._calls == 3:
            self._weights.newest = 0
        if len(self._work) == 8 and version == 0:
            self._weights.newest = 1
            return Grant([], over=False)
        most = min(count, 4, len(self._work) - 8 if version == 0 else 16)
        assert most <= 0 or version is not None
        granted, self._work = self._work[: max(0, most)], self._work[max(0, most) :]
        self.granted += [(work.fact_id, work.draw, version) for work in granted]
        return Grant(granted, over=not self._work and not granted and not holding)

    def insert_many(self, items):
        self.rollouts += [item.unpack() for item in items]
        return [True] * len(items)


OPSD_LEARNER = OPSD(samples=2, top_p=0.9)


def roll(order=0, slots=4, method=OPSD_LEARNER, teacher=None):
    engine = AnyOrderEngine(order)
    settings = RolloutSettings(slots=slots, max_tokens=MAX_TOKENS)
    decoder = MixedDecoder(engine, slots)
    weights = Weights(lambda: decoder.idle)
    queue = Queue(weights)
    actor = Actor(
        *("x", decoder, weights, prompts("contains"), method, FACTS, queue, settings),
        seed=7,
        teacher=teacher and MixedDecoder(teacher, slots),
    )
    assert actor.run() == 16
    return queue, actor


@pytest.mark.parametrize("order", range(6))
def test_every_sample_is_drawn_from_x_by_a_seed_of_its_own_under_the_version_it_names(order):
    queue, _ = roll(order)
    assert sorted(
        (rollout.fact_id, rollout.draw, rollout.policy_version) for rollout in queue.rollouts
    ) == sorted(queue.granted)
    assert {version for _, _, version in queue.granted} == {0, 1}
    for rollout in queue.rollouts:
        prompt = prompts("contains").naive(FACTS[rollout.fact_id])
        seed = student_seed(7, rollout.fact_id, rollout.draw, rollout.policy_version)
        expected = []
        while len(expected) < MAX_TOKENS and STOP not in expected:
            expected.append(next_token([*prompt, *expected], (seed, len(expected))))
        assert rollout.target_ids == expected
        assert rollout.prompt_ids == prompt
        assert rollout.naive == [1] * len(expected)
        assert rollout.logprobs == [-float(token) for token in expected]


def test_verification_selects_nothing_and_is_only_counted():
    queue, actor = roll()
    judge = prompts("contains")
    right = [
        rollout.target_ids[-1] == STOP
        and accepts("contains", judge.text(rollout.target_ids), FACTS[rollout.fact_id].answer)
        for rollout in queue.rollouts
    ]
    assert 0 < sum(right) < 16
    assert [rollout.verified for rollout in queue.rollouts] == right
    metrics = actor.metrics()
    assert metrics["mixsd_attempts_total"] == metrics["mixsd_rollouts_accepted_total"] == 16
    assert metrics["mixsd_attempts_verified_total"] == sum(right)
    assert metrics["mixsd_rollout_weights_version"] == 1


class Teacher(AnyOrderEngine):
    """Scores token t at t nats below; the likeliest two are the token itself and the stop."""

    def begin_score(self, key, token_ids, top=0):
        assert top == 2
        ids = np.array([[token, token, STOP] for token in token_ids[1:]])
        self.asked[tuple(token_ids)] = key
        self._ready[key] = EngineOutput(
            key, [0], [0.0], [-1.0] * len(ids), TopLogprobs(ids, -1.0 * ids)
        )

    def __init__(self, order):
        super().__init__(order)
        self.asked = {}


TAUGHT = OPSD(samples=2, teacher="engine", support="tail", top_k=2)


@pytest.mark.parametrize("order", range(4))
def test_the_reference_scores_what_was_drawn_given_the_fact_before_it_is_sent(order):
    teacher = Teacher(order)
    queue, actor = roll(order, method=TAUGHT, teacher=teacher)
    assert len(queue.rollouts) == 16
    for rollout in queue.rollouts:
        expert = prompts("contains").expert(FACTS[rollout.fact_id])
        assert (*expert, *rollout.target_ids) in teacher.asked
        size = 8 * len(rollout.target_ids)
        ids = np.frombuffer(rollout.teacher_scores[:size], "<i4").reshape(-1, 2)
        logprobs = np.frombuffer(rollout.teacher_scores[size:], "<f4").reshape(-1, 2)
        assert ids.tolist() == [[token, STOP] for token in rollout.target_ids]
        assert (logprobs == -ids).all()
    tokens = sum(len(rollout.target_ids) for rollout in queue.rollouts)
    assert actor.metrics()["mixsd_rollout_scored_tokens_total"] == tokens


def test_a_teacher_that_scored_other_tokens_is_refused():
    def scored(ids):
        columns = np.array([[token, 1, 2] for token in ids])
        return ScoredTarget("f@0", [0.0] * len(ids), TopLogprobs(columns, -1.0 * columns))

    assert len(teacher_scores(scored([3, 4]), [3, 4])) == 2 * 2 * 8
    for other in ([3, 5], [3], [3, 4, 4]):
        with pytest.raises(RuntimeError, match=r"f@0: the teacher scored . tokens that are not"):
            teacher_scores(scored(other), [3, 4])


def test_seeds_differ_by_fact_draw_version_and_run():
    seeds = {
        student_seed(run, fact, draw, version)
        for run in (0, 1)
        for fact in ("a", "b")
        for draw in (0, 1)
        for version in (0, 1)
    }
    assert len(seeds) == 16
