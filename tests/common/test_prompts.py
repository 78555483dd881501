import pytest

from common.errors import UserError
from common.prompts import PRESETS, Prompts, check_answers
from common.records import Fact


def prompts(mode=None):
    return Prompts(tokenizer=None, preset=PRESETS["kgfact"], end_token_id=0, mode=mode)


def test_the_verdict_is_the_presets_unless_another_is_set():
    assert (prompts().mode, prompts("contains").mode) == ("boxed", "contains")


@pytest.mark.parametrize(
    ("mode", "answer", "message"),
    [
        ("last_number", "Paris", "fact f: rollout.verify=last_number needs a number .*'Paris'"),
        ("contains", " . ", "fact f: the answer ' . ' holds nothing to verify"),
    ],
)
def test_an_answer_that_no_response_could_give_is_refused(mode, answer, message):
    with pytest.raises(UserError, match=message):
        check_answers(prompts(mode), [Fact("f", "q", answer)])


def test_answers_that_can_be_given_pass():
    check_answers(prompts("last_number"), [Fact("f", "q", "$1,000")])
    check_answers(prompts("boxed_or_last_number"), [Fact("f", "q", "Paris")])
