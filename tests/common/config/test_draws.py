"""How many targets a fact gets, and how often each is trained."""

import pytest

from common.errors import UserError
from tests.common.config.test_run_config import MINIMAL, read


@pytest.mark.parametrize(
    ("settings", "rollouts", "exposures"),
    [
        # One target, trained in all 30 epochs: the paper's.
        ((), 1, 30),
        (("method.draws=2",), 2, 30),
        (("method.redraw=epoch",), 30, 1),
        (("method.draws=2", "method.redraw=epoch"), 60, 1),
        (("method.draws=2", "method.redraw=epoch", "learner.epochs=3"), 6, 1),
        # Without a learner the targets are those that it would train.
        (("method.draws=2", "train=false"), 2, 0),
        (("method.redraw=epoch", "train=false"), 30, 0),
        (("method.name=sft",), 1, 30),
        (("method.name=opsd", "method.samples=8", "replay.max_lag=0"), 240, 1),
    ],
)
def test_a_fact_has_its_draws_once_or_in_each_of_30_epochs(tmp_path, settings, rollouts, exposures):
    plain = "name: a\nmethod: {name: mixsd}\ndata: {kgfact: {}}\n"
    config = read(tmp_path, plain, *settings)
    assert (config.rollouts_per_fact, config.exposures_per_rollout) == (rollouts, exposures)


@pytest.mark.parametrize("settings", [("method.draws=2",), ("method.redraw=epoch",)])
def test_draws_that_are_all_the_same_are_refused(tmp_path, settings):
    for rate in (0, 1):
        with pytest.raises(UserError, match=r"at rollout\.temperature 0 all are the same unless"):
            read(tmp_path, MINIMAL, *settings, f"method.mix_rate={rate}")
        read(tmp_path, MINIMAL, *settings, f"method.mix_rate={rate}", "rollout.temperature=0.5")
    read(tmp_path, MINIMAL, "method.redraw=epoch", "method.mix_rate=0", "learner.epochs=1")


@pytest.mark.parametrize("setting", ["draws=2", "redraw=epoch"])
def test_only_methods_with_mixed_targets_have_draws(tmp_path, setting):
    key = setting.partition("=")[0]
    raw = "name: a\nmethod: {{name: {}}}\ndata: {{kgfact: {{}}}}\n"
    for name in ("sft", "opsd"):
        with pytest.raises(UserError, match=rf"method\.{key}: no such setting"):
            read(tmp_path, raw.format(name), f"method.{setting}", "replay.max_lag=0")
    distill = raw.format("context_distill")
    with pytest.raises(UserError, match=r"method\.targets is canonical: every draw of a fact is"):
        read(tmp_path, distill, f"method.{setting}")
    assert read(tmp_path, distill, f"method.{setting}", "method.targets=mixed")
