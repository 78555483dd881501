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


def test_an_engine_that_shares_its_gpu_with_the_learner_stays_the_only_one(tmp_path):
    raw = {**CONFIG.model_dump(mode="json"), "method": {"name": "opsd"}, "replay": {"max_lag": 0}}
    config = configuration.parse({**raw, "publish": {"transport": "ipc"}}, "test")
    desired.change(RunDir(tmp_path), config, {"rollout": 0})
    with pytest.raises(UserError, match=r"rollout: 2 actors, but publish.transport is ipc, .*; 1"):
        desired.change(RunDir(tmp_path), config, {"rollout": 2})
    assert desired.read(RunDir(tmp_path), config).rollout == 0


def test_a_gpu_that_was_divided_among_two_engines_has_no_part_for_a_third(tmp_path):
    raw = {**CONFIG.model_dump(mode="json"), "cluster": {"placement": "shared"}}
    config = configuration.parse({**raw, "engine": {"device": "cuda", "dtype": "bfloat16"}}, "test")
    # One part may go from one role to the other.
    desired.change(RunDir(tmp_path), config, {"rollout": 2, "evaluator": 0})
    with pytest.raises(UserError, match=r"rollout=2 and evaluator=1 are 3 engines, .* among 2 at"):
        desired.change(RunDir(tmp_path), config, {"evaluator": 1})
    assert desired.read(RunDir(tmp_path), config).evaluator == 0
    on_cpu = configuration.parse({**raw, "engine": {"device": "cpu"}}, "test")
    desired.change(RunDir(tmp_path), on_cpu, {"rollout": 9})


def test_what_needs_a_restart_is_refused_with_what_does_not(tmp_path):
    with pytest.raises(UserError, match=r"learner\.lr: cannot be changed.*replay\.max_bytes"):
        desired.change(RunDir(tmp_path), CONFIG, {"learner.lr": 1e-3})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[" * 100_000, "not JSON: recursion limit"),
        ("[]", "input should be a valid dictionary"),
        ('{"rollout": NaN}', "not JSON"),
        ('{"rollout": 1, "evaluator": true, "replay": {}}', "evaluator: .*, not 'true'; remove"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, content, message):
    (tmp_path / "desired.json").write_text(content)
    with pytest.raises(UserError, match=rf"desired\.json: {message}"):
        desired.read(RunDir(tmp_path), CONFIG)


def test_a_whole_section_cannot_be_changed(tmp_path):
    with pytest.raises(UserError, match=r"replay: cannot be changed on a live run; these can: rol"):
        desired.change(RunDir(tmp_path), CONFIG, {"replay": 5, "x": 1})
