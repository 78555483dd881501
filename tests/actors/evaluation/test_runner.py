"""From a benchmark and an engine to a score and its responses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from actors.evaluation.benchmarks import maths
from actors.evaluation.benchmarks.base import (
    Choice,
    Generation,
    Grade,
    MultipleChoice,
    Question,
    ResponseSampling,
    TextNLL,
    fingerprint,
)
from actors.evaluation.runner import EvaluationRunner, Progress, Suite, build_suite
from common.corpora import Corpus
from common.records import Fact
from tests.actors.evaluation.benchmarks.letters import materials
from tests.actors.inference.fake_engine import FakeEngine


def _ids(text: str) -> list[int]:
    return [ord(letter) for letter in text]


def _asked(*texts: str, samples: int = 1, temperature: float = 0.0, tokens: int = 50) -> Generation:
    questions = [Question(f"q{n}", _ids(text), text, text[0]) for n, text in enumerate(texts)]
    return Generation(
        "quiz", questions, maths.by_number, ResponseSampling(tokens, temperature, samples)
    )


def _measure(engine: FakeEngine, *benchmarks: Any, corpus: Any = None, **settings: Any) -> Any:
    meter = EvaluationRunner(engine, materials(corpus, **settings))
    return meter.measure(Suite("quiz", benchmarks, {"other": "no data"}, "key"))


def test_a_generation_is_the_share_of_right_responses_with_its_interval() -> None:
    engine = FakeEngine(lambda text, weights: "\\boxed{1}")
    measured = _measure(engine, _asked("1?", "1!", "1.", "2?"))
    score = measured.scores["quiz"]
    assert (score.value, score.n, score.unit) == (0.75, 4, "fraction")
    # Wilson's interval of 3 of 4.
    assert (round(score.low, 3), round(score.high, 3)) == (0.301, 0.954)
    assert score.errors == {"genuine": 1}
    assert score.to_json()["seconds"] >= 0
    assert measured.scores["other"].to_json() == {"not_measured": "no data"}
    assert [one.right for one in measured.responses] == [True, True, True, False]
    assert measured.responses[3].to_json() == {
        "benchmark": "quiz",
        "id": "q3",
        "question": "2?",
        "answer": "2",
        "response": "\\boxed{1}\0",
        "extracted": "1",
        "right": False,
        "cut_off": False,
        "error": "genuine",
    }


def test_responses_keep_their_questions_whatever_ends_first() -> None:
    engine = FakeEngine(lambda text, weights: text[0])
    measured = _measure(engine, _asked(*[f"{n}?" for n in range(9)]), slots=4)
    assert measured.scores["quiz"].value == 1.0
    assert engine.most == 4


def test_wrong_responses_are_counted_by_class() -> None:
    corpus = Corpus([Fact("f", "Who?", "Tam Okord")], [])
    said = {"1": "", "2": "Tam Okord", "3": "who knows", "4": "5"}
    engine = FakeEngine(lambda text, weights: said[text[0]])
    measured = _measure(engine, _asked("1", "2", "3", "4"), corpus=corpus)
    assert measured.scores["quiz"].errors == {
        "collapse": 1,
        "leakage": 1,
        "format": 1,
        "genuine": 1,
    }


def test_other_graders_score_the_same_responses_with_an_interval_each() -> None:
    def graded(question: Question, response: str) -> Grade:
        # The question's letters are the verdicts: the score's, then strict's.
        right, strict = (letter == "r" for letter in question.text)
        return Grade(right, response, others={"strict": strict})

    engine = FakeEngine(lambda text, weights: "x")
    asked = replace(_asked("rr", "rr", "rw", "ww"), grade=graded)
    measured = _measure(engine, asked)
    score = measured.scores["quiz"]
    strict = score.graders["strict"]
    assert (score.value, strict.value) == (0.75, 0.5)
    # Wilson's interval of 2 of 4.
    assert (round(strict.low, 3), round(strict.high, 3)) == (0.15, 0.85)
    assert [one.verdicts["strict"] for one in measured.responses] == [True, True, False, False]
    assert score.errors == {"genuine": 1}
    # The key is not written where nobody else graded.
    assert "graders" not in _measure(engine, _asked("1")).scores["quiz"].to_json()


def test_another_grader_s_score_of_several_samples_is_their_mean() -> None:
    turn = iter([True, False, False, False, True, True, True, True])

    def graded(question: Question, response: str) -> Grade:
        return Grade(True, response, others={"paper": next(turn)})

    asked = replace(_asked("1", "1", samples=4, temperature=1.0), grade=graded)
    score = _measure(FakeEngine(lambda text, weights: "x"), asked).scores["quiz"]
    paper = score.graders["paper"]
    # A quarter of the first question's samples, and all of the second's.
    assert (paper.value, paper.low, paper.high) == (0.625, 0.25, 1.0)


def test_the_protocol_decides_the_classes_and_the_key() -> None:
    engine = FakeEngine(lambda text, weights: "\\boxed{Leader 2}" if "1?" in text else "who knows")
    corpus = Corpus([Fact(f"f{n}", f"Who leads {n}?", f"Leader {n}") for n in (1, 2)], [])
    errors, keys = {}, set()
    for protocol in ("ours", "paper"):
        made = materials(corpus, protocol=protocol, max_tokens=64)
        suite = build_suite("recall", made)
        errors[protocol] = EvaluationRunner(engine, made).measure(suite).scores["recall"].errors
        keys.add(suite.key)
    assert errors["ours"] == {"leakage": 1, "format": 1}
    assert errors["paper"] == {"cross_entity": 1, "format": 1}
    assert len(keys) == 2


def test_greedy_models_and_greedy_sampling_have_one_sample_at_temperature_0() -> None:
    paper = ResponseSampling(16_384, 1.0, 16)
    assert materials().sampling(paper) == paper
    greedy = ResponseSampling(16_384, 0.0, 1)
    assert replace(materials(), greedy=True).sampling(paper) == greedy
    assert materials(sampling="greedy").sampling(paper) == greedy
    assert materials(benchmark_tokens=99).sampling(paper) == ResponseSampling(99, 1.0, 16)


def test_several_samples_are_averaged_a_question_and_drawn_with_seeds_of_their_own() -> None:
    turn = iter([1, 0, 1, 0, 1, 1, 1, 1])
    engine = FakeEngine(lambda text, weights: str(next(turn)))
    measured = _measure(engine, _asked("1", "1", samples=4, temperature=1.0))
    score = measured.scores["quiz"]
    assert (score.value, score.n, score.samples) == (0.75, 2, 4)
    assert (score.low, score.high) == (0.5, 1.0)
    assert len(set(engine.seeds)) == 8
    assert len(measured.responses) == 8


def test_a_response_ends_with_the_context_and_is_marked() -> None:
    engine = FakeEngine(lambda text, weights: "1" * 30)
    engine.max_model_len = 22
    measured = _measure(engine, _asked("1" * 20))
    assert measured.scores["quiz"].cut_off == 1
    assert measured.responses[0].response == "11"


def test_an_item_that_does_not_fit_is_a_reason_that_names_the_setting() -> None:
    engine = FakeEngine(lambda text, weights: "1")
    engine.max_model_len = 20
    measured = _measure(engine, _asked("1" * 20))
    assert measured.scores["quiz"].not_measured == (
        "an item of quiz takes 21 tokens, more than engine.max_model_len=20; raise it"
    )
    assert measured.responses == []


def test_a_choice_is_the_likeliest_a_character() -> None:
    items = [Choice("a", "Q", ("xx", "oo"), 1), Choice("b", "Q", ("xx", "ooo"), 0)]
    engine = FakeEngine(lambda text, weights: "")
    measured = _measure(engine, MultipleChoice("pick", items))
    assert measured.scores["pick"].value == 0.5
    # " xx" has log-likelihood −1 −2 −2, " oo" −3 over two letters.
    assert measured.responses[0].logprobs == [-5.0, -3.0]
    assert measured.responses[0].response == "oo"


def test_text_is_its_mean_nll() -> None:
    windows = [(_ids("a"), _ids("bxb")), (_ids("a"), _ids("b"))]
    measured = _measure(FakeEngine(lambda text, weights: ""), TextNLL("text", windows))
    score = measured.scores["text"]
    assert (score.value, score.n, score.unit) == (1.25, 4, "nats/token")


def test_progress_is_reported_item_by_item() -> None:
    reported: list[Progress] = []
    meter = EvaluationRunner(FakeEngine(lambda text, weights: "1"), materials(), reported.append)
    meter.measure(Suite("quiz", (_asked("1", "2"),), {}, "key"))
    assert reported == [Progress("quiz", 1, 2), Progress("quiz", 2, 2)]


def test_the_key_changes_with_all_that_decides_a_score() -> None:
    facts = [Fact(f"f{n}", f"Who leads {n}?", f"Leader {n}") for n in range(6)]
    key = build_suite("recall", materials(Corpus(facts, []))).key
    assert build_suite("recall", materials(Corpus(facts, []))).key == key
    others = [
        materials(Corpus(facts[:5], [])),
        materials(Corpus(facts, []), limit=3),
        materials(Corpus(facts, []), max_tokens=65),
    ]
    assert len({key, *(build_suite("recall", other).key for other in others)}) == 4
    assert build_suite("recall", materials(Corpus(facts, []), slots=3)).key == key


def test_a_suite_whose_data_is_missing_says_which_and_why() -> None:
    suite = build_suite("small", materials(data_root="/nonexistent"))
    assert suite.benchmarks == ()
    assert set(suite.missing) == {"arc_easy", "piqa", "wikitext2", "ifeval", "retrieval"}
    assert suite.missing["retrieval"] == "the corpus has no retrieval items"
    assert "/nonexistent/arc" in suite.missing["arc_easy"]


def test_fingerprints_tell_benchmarks_apart() -> None:
    one = [Choice("a", "Q", ("x", "y"), 0)]
    other = [Choice("a", "Q", ("x", "y"), 1)]
    assert fingerprint(MultipleChoice("m", one)) == fingerprint(MultipleChoice("m", list(one)))
    assert fingerprint(MultipleChoice("m", one)) != fingerprint(MultipleChoice("m", other))
    assert fingerprint(_asked("1", tokens=5)) != fingerprint(_asked("1", tokens=6))
