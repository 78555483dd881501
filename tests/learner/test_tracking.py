import sys

import pytest

from common.config.learner import LearnerSettings
from common.errors import UserError
from common.rundir import RunDir
from learner.tracking import Trackers


@pytest.mark.parametrize(
    ("package", "settings"),
    [("tensorboardX", {"tensorboard": True}), ("wandb", {"wandb": "facts"})],
)
def test_a_missing_package_is_reported_with_the_remedy(tmp_path, monkeypatch, package, settings):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=f"{package} is not installed; run 'pip install {package}'"):
        Trackers(LearnerSettings(device="cpu", **settings), RunDir(tmp_path))


def test_wandb_gets_the_runs_name_and_each_step(tmp_path, monkeypatch):
    calls = []

    class Wandb:
        def init(self, **settings):
            calls.append((settings["project"], settings["id"], settings["resume"]))
            return self

        def log(self, values, step):
            calls.append((values, step))

    monkeypatch.setitem(sys.modules, "wandb", Wandb())
    trackers = Trackers(LearnerSettings(device="cpu", wandb="facts"), RunDir(tmp_path / "run"))
    trackers.log(3, {"loss": 2.0})
    assert calls == [("facts", "run", "allow"), ({"learner/loss": 2.0}, 3)]
