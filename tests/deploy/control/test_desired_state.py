import pytest

from common.config import run_config as configuration
from common.errors import UserError
from common.rundir import RunDir
from deploy.control import desired_state as desired

CONFIG = configuration.parse(
    {"name": "run", "method": {"name": "sft"}, "data": {"kgfact": {"domains": 2, "entities": 2}}},
    "test",
)


def test_without_a_wish_the_configuration_holds(tmp_path):
    wanted = desired.read(RunDir(tmp_path), CONFIG)
    assert (wanted.rollout, wanted.evaluator, wanted.stopped) == (1, 1, False)
    assert wanted.replay == CONFIG.replay


def test_wishes_add_up(tmp_path):
    run = RunDir(tmp_path)
    desired.change(run, CONFIG, {"rollout": 3})
    desired.change(run, CONFIG, {"replay.min_size": 5})
    wanted = desired.read(run, CONFIG)
    assert (wanted.rollout, wanted.replay.min_size) == (3, 5)


def test_a_wish_out_of_range_changes_nothing(tmp_path):
    run = RunDir(tmp_path)
    with pytest.raises(UserError, match=r"replay\.min_size.*not 0"):
        desired.change(run, CONFIG, {"rollout": 3, "replay.min_size": 0})
    assert desired.read(run, CONFIG).rollout == 1


def test_what_needs_a_restart_is_refused_with_what_does_not(tmp_path):
    with pytest.raises(UserError, match=r"learner\.lr: cannot be changed.*replay\.max_bytes"):
        desired.change(RunDir(tmp_path), CONFIG, {"learner.lr": 1e-3})
