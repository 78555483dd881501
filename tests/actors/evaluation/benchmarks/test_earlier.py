"""What is asked about the facts of earlier batches, and how it is graded."""

from __future__ import annotations

import pytest

from actors.evaluation import benchmarks
from actors.evaluation.benchmarks.base import NotMeasured, Question
from actors.evaluation.benchmarks.earlier import edited, grade_edited, recall, retracted
from actors.evaluation.benchmarks.in_domain import grade
from actors.evaluation.runner import EvaluationRunner, build_suite
from common.corpora import Corpus
from common.corpora.batches import follow
from common.records import Fact
from common.verification.verifier import Mode
from tests.actors.evaluation.benchmarks.letters import materials
from tests.actors.inference.fake_engine import FakeEngine

FIRST = [Fact("1", "Who leads Orveline?", "Tam Okord"), Fact("2", "Where is it?", "Marn")]
SECOND = [Fact("1", "Who leads Tovia?", "Ann Bel", aliases=("A. Bel",))]
THIRD = [Fact("1", "Who leads Orveline?", "Ivo Ler")]


def chain(*batches: list[Fact]) -> Corpus:
    return Corpus(batches[-1], [], earlier=follow(batches))


def asked(corpus: Corpus, name: str) -> list[tuple[str, str, str]]:
    built = benchmarks.build(name, materials(corpus))
    return [(one.id, one.text, one.answer) for one in built.questions]  # type: ignore[union-attr]


def test_each_earlier_batch_is_a_benchmark_of_the_facts_that_still_hold() -> None:
    corpus = chain(FIRST, SECOND, THIRD)
    assert benchmarks.members("earlier", materials(corpus)) == (
        *("recall_batch_1", "recall_batch_2"),
        "edited",
    )
    assert asked(corpus, "recall_batch_1") == [("2", "Where is it?", "Marn")]
    assert asked(corpus, "recall_batch_2") == [("1", "Who leads Tovia?", "Ann Bel")]
    # The new answer alone is right.
    assert asked(corpus, "edited") == [("batch_1:1", "Who leads Orveline?", "Ivo Ler")]


def test_without_edits_there_is_no_benchmark_of_them_and_an_edited_batch_is_not_measured() -> None:
    assert benchmarks.members("earlier", materials(chain(FIRST, SECOND))) == ("recall_batch_1",)
    with pytest.raises(NotMeasured, match="no earlier fact was edited"):
        edited(materials(chain(FIRST, SECOND)))
    with pytest.raises(NotMeasured, match="all facts of batch 1 were edited or retracted"):
        recall(1, materials(chain(FIRST[:1], THIRD)))


def test_a_question_that_was_edited_twice_is_asked_once_with_all_its_old_answers() -> None:
    fourth = [Fact("1", "Who leads Orveline?", "Bo Cy")]
    built = edited(materials(chain(FIRST, THIRD, fourth)))
    (question,) = built.questions
    assert (question.answer, question.data["outdated"]) == ("Bo Cy", ["Tam Okord", "Ivo Ler"])


def test_a_limit_draws_the_facts_that_the_batch_s_own_run_has_asked() -> None:
    many = [Fact(f"f{n}", f"Who leads {n}?", f"Leader {n}") for n in range(20)]
    own = benchmarks.build("recall", materials(Corpus(many, []), limit=5))
    later = benchmarks.build("recall_batch_1", materials(chain(many, SECOND), limit=5))
    assert [one.id for one in own.questions] == [one.id for one in later.questions]  # type: ignore[union-attr]


def test_what_was_told_of_an_earlier_fact_is_not_told_of_one_with_the_same_id() -> None:
    (question,) = recall(2, materials(chain(FIRST, SECOND, THIRD))).questions
    assert "Ann Bel" in question.data["known"]
    assert "Ivo Ler" not in question.data["known"]


@pytest.mark.parametrize(
    ("mode", "response", "right", "error"),
    [
        ("contains", "Ivo Ler leads it.", True, ""),
        ("contains", "Tam Okord leads it.", False, "outdated"),
        ("contains", "Not Tam Okord.", False, ""),
        ("contains", "Ann Bel leads it.", False, ""),
        ("boxed", "Tam Okord was. \\boxed{Ivo Ler}", True, ""),
        ("boxed", "Ivo Ler is. \\boxed{Tam Okord}", False, "outdated"),
        ("boxed", "Tam Okord", False, ""),
    ],
)
def test_an_old_answer_is_wrong_and_a_class_of_its_own(
    mode: Mode, response: str, right: bool, error: str
) -> None:
    question = Question("f", [], "Who?", "Ivo Ler", {"outdated": ["Tam Okord"]})
    found = grade_edited(mode, lambda *asked: grade(mode, *asked), question, response)
    assert (found.right, found.error) == (right, error)


@pytest.mark.parametrize("protocol", ["ours", "paper"])
def test_scores_and_classes_of_the_suite(protocol: str) -> None:
    def said(text: str, weights: str) -> str:
        return "\\boxed{Marn}" if "Where" in text else "\\boxed{Tam Okord}"

    made = materials(chain(FIRST, SECOND, THIRD), protocol=protocol, max_tokens=64)
    measured = EvaluationRunner(FakeEngine(said), made).measure(build_suite("earlier", made))
    values = {name: score.value for name, score in measured.scores.items()}  # type: ignore[union-attr]
    assert values == {"recall_batch_1": 1.0, "recall_batch_2": 0.0, "edited": 0.0}
    assert measured.scores["edited"].errors == {"outdated": 1}  # type: ignore[union-attr]
    # Tam Okord is no fact of this batch, but a trained name all the same.
    kind = {"ours": "leakage", "paper": "cross_entity"}[protocol]
    assert measured.scores["recall_batch_2"].errors == {kind: 1}  # type: ignore[union-attr]


LEADS_NO_MORE = Fact("1", "Who leads Orveline?", "Tam Okord", retract=True)


def test_retractions_of_this_batch_and_of_earlier_ones_are_asked_each_once() -> None:
    later = [LEADS_NO_MORE, Fact("9", "Who leads Tovia?", "Cy", retract=True)]
    made = materials(chain(FIRST, THIRD, later))
    assert benchmarks.members("earlier", made)[-1] == "retracted"
    found = {one.text: one.data["outdated"] for one in retracted(made).questions}
    # The answer before the last one was edited, and is to be given no more either.
    assert found == {
        "Who leads Orveline?": ["Tam Okord", "Ivo Ler"],
        "Who leads Tovia?": ["Cy"],
    }
    assert asked(chain(FIRST, [LEADS_NO_MORE]), "recall_batch_1") == [("2", "Where is it?", "Marn")]
    # Recall would count as recalled what nobody was ever taught.
    assert asked(Corpus([*SECOND, LEADS_NO_MORE], []), "recall") == [
        ("1", "Who leads Tovia?", "Ann Bel")
    ]
    with pytest.raises(NotMeasured, match="the corpus has retractions alone"):
        benchmarks.build("recall", materials(Corpus([LEADS_NO_MORE], [])))
    with pytest.raises(NotMeasured, match="no fact was retracted"):
        retracted(materials(chain(FIRST, THIRD)))


@pytest.mark.parametrize(
    ("response", "right", "error"),
    [
        ("I do not know.", True, ""),
        ("It was never Tam Okord.", True, ""),
        ("Ivo Ler leads it.", True, ""),
        ("\\boxed{Tam Okord}", False, "outdated"),
        ("Tam Okord, but that is no longer so.", False, "outdated"),
    ],
)
def test_of_a_retraction_every_response_without_the_old_answer_is_right(
    response: str, right: bool, error: str
) -> None:
    asked = retracted(materials(Corpus([LEADS_NO_MORE], [])))
    found = asked.grade(asked.questions[0], response)
    assert (found.right, found.error) == (right, error)
