"""Settings of methods that choose among samples of the expert, or rewrite an answer."""

import pytest

from common.errors import UserError
from tests.common.config.test_run_config import read

RUN = "name: a\nmethod: {{name: {}}}\ndata: {{kgfact: {{}}}}\n"


def test_samples_that_are_all_the_same_are_refused(tmp_path):
    message = r"method\.samples is 8, but at rollout\.temperature 0 .*; raise the temperature"
    with pytest.raises(UserError, match=message):
        read(tmp_path, RUN.format("best_of_n"))
    read(tmp_path, RUN.format("best_of_n"), "method.samples=1")
    config = read(tmp_path, RUN.format("best_of_n"), "rollout.temperature=1")
    assert (config.method.selection.samples, config.method.selection.num_compared) == (8, 8)
    first = read(tmp_path, RUN.format("best_of_n"), "rollout.temperature=1", "method.choose=first")
    assert (first.method.selection.samples, first.method.selection.num_compared) == (8, 1)


@pytest.mark.parametrize(
    ("name", "problem"),
    [("sdft", "in a prompt of its own in every attempt"), ("best_of_n", "draws every sample from")],
)
def test_a_fallback_to_the_expert_is_refused_where_it_is_one_more_of_the_same(
    tmp_path, name, problem
):
    settings = ("rollout.temperature=1", "rollout.on_exhausted=expert")
    with pytest.raises(UserError, match=rf"on_exhausted is expert, but method {name} .*{problem}"):
        read(tmp_path, RUN.format(name), *settings)
    read(tmp_path, RUN.format(name), *settings, "rollout.on_exhausted=canonical")


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{question} {answer}", r"method\.rewrite: unknown slot \{answer\}; slots here: "),
        ("{question}", r"method\.rewrite: the slot \{canonical\} is missing"),
        ("Rewrite it.", r"method\.rewrite: a slot is missing; slots here: "),
    ],
)
def test_a_rewriting_prompt_shows_question_and_answer(tmp_path, template, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, RUN.format("sdft"), f"method.rewrite='{template}'")


def test_further_draws_of_a_rewrite_need_a_temperature(tmp_path):
    with pytest.raises(UserError, match=r"at rollout\.temperature 0 all are the same"):
        read(tmp_path, RUN.format("sdft"), "method.draws=2")
    read(tmp_path, RUN.format("sdft"), "method.draws=2", "rollout.temperature=1")


@pytest.mark.parametrize("share", ["0", "1", "-0.1"])
def test_the_share_of_rehearsal_leaves_facts_and_prompts(tmp_path, share):
    with pytest.raises(UserError, match=r"method\.share: "):
        read(tmp_path, RUN.format("rehearsal"), f"method.share={share}")
    assert read(tmp_path, RUN.format("rehearsal"), "method.share=0.5").method.share == 0.5
