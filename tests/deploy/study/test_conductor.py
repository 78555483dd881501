"""A study from its first cell to its last; runs are folders in which a fake start writes."""

import json
from types import SimpleNamespace as Namespace

import pytest

from common.config.auto import settle
from common.config.run_config import dump, parse
from common.errors import UserError
from common.hardware import detect
from common.ledger import Accepted, Ledger, open_view
from deploy.study import conductor as module
from deploy.study.cells import Cell
from deploy.study.conductor import Conductor, stop
from deploy.study.folder import Study, save

RAW = {
    "method": {"name": "mixsd"},
    "data": {"kgfact": {"domains": 5, "entities": 4}},
    "engine": {"device": "cpu", "dtype": "float32"},
    "learner": {"device": "cpu", "dtype": "float32"},
}


def _cell(name, lr=1e-5, seed=0):
    config = parse({**RAW, "name": name, "seed": seed, "learner": {"lr": lr}}, "test")
    return Cell(name, {"learner.lr": f"{lr:g}", "seed": str(seed)}, config)


@pytest.fixture
def world(monkeypatch):
    """What starts are asked for, and how they end: by name, ``finished`` unless said otherwise."""
    world = Namespace(started=[], ends={}, said=[], heads=0)

    def start(config, run, say, host):
        say("note: a remark")
        end = world.ends.get(config.name, "finished")
        if isinstance(end, Exception):
            raise end
        first = config.name not in world.started
        world.started.append(config.name)
        run.config.write_text(dump(config))
        run.identity.write_text("{}")
        if not run.ledger.exists():
            _draw(run.ledger, config)
        # A list has the state after each start.
        state = end.pop(0) if isinstance(end, list) else end
        status = {"run": config.name, "state": state, "queue": {"settled": True, "work": 1}}
        run.status.write_text(
            json.dumps({**status, "cause": "broken" if state == "failed" else ""})
        )
        assert first or isinstance(end, list)

    def start_local(run, settings):
        world.heads += 1

    monkeypatch.setattr(module.launch, "settled", lambda config, run: settle(config, detect()))
    monkeypatch.setattr(module.launch, "start", start)
    monkeypatch.setattr(module.ray_cluster, "start_local", start_local)
    monkeypatch.setattr(module.ray_cluster, "head_pid", lambda run: world.heads or None)
    monkeypatch.setattr(module, "_TICK_S", 0.0)
    monkeypatch.setattr(module, "_INTERRUPTED_S", 0.0)
    return world


def _draw(path, config):
    ledger = Ledger(path, epochs=1, seed=config.seed)
    ledger.add_work([("fact", 0)])
    ledger.insert_many([Accepted("fact", 0, config.name.encode(), 1)])
    ledger.close()


def _conduct(world, folder, *cells):
    study = Study("study", cells)
    save(study, folder)
    conductor = Conductor(study, folder, world.said.append, at_once=1)
    conductor.run(lambda progress, waiting: None)
    return conductor


def _drawn_by(folder, cell):
    view = open_view(cell.run(folder).ledger)
    payloads = [*view.payloads()]
    view.close()
    return payloads[0].decode()


def test_every_cell_is_started_once_in_order_on_one_head(world, tmp_path):
    cells = [_cell(f"c{n}", seed=n) for n in range(3)]
    conductor = _conduct(world, tmp_path, *cells)
    assert world.started == ["c0", "c1", "c2"]
    assert world.heads == 1
    assert conductor.unfinished() == {}
    assert world.said[-1] == "cell c2: finished (3 of 3 cells finished)"


def test_cells_with_the_same_targets_get_those_of_the_first(world, tmp_path):
    low, high, other = _cell("low", 1e-5), _cell("high", 1e-4), _cell("other", 1e-4, seed=1)
    _conduct(world, tmp_path, low, high, other)
    assert [_drawn_by(tmp_path, cell) for cell in (low, high, other)] == ["low", "low", "other"]
    assert "cell high: starts, with the targets of low" in world.said


def test_a_study_that_is_started_again_starts_only_what_is_left(world, tmp_path):
    cells = [_cell(f"c{n}", seed=n) for n in range(2)]
    _conduct(world, tmp_path, cells[0])
    _conduct(world, tmp_path, *cells)
    assert world.started == ["c0", "c1"]


def test_a_cell_that_fails_is_not_tried_again_and_the_others_go_on(world, tmp_path):
    world.ends["c0"] = "failed"
    cells = [_cell(f"c{n}", seed=n) for n in range(2)]
    conductor = _conduct(world, tmp_path, *cells)
    assert world.started == ["c0", "c1"]
    assert conductor.unfinished() == {"c0": "failed"}
    assert "cell c0: failed: broken (0 of 2 cells finished)" in world.said
    # The next conductor tries it again.
    world.ends["c0"] = ["finished"]
    assert _conduct(world, tmp_path, *cells).unfinished() == {}


def test_a_cell_that_cannot_start_is_named_with_the_reason(world, tmp_path):
    world.ends["c0"] = UserError("data.facts: missing")
    conductor = _conduct(world, tmp_path, _cell("c0"), _cell("c1", seed=1))
    assert conductor.unfinished() == {"c0": "data.facts: missing"}
    assert world.started == ["c1"]


def test_an_interrupted_cell_is_started_again_a_few_times(world, tmp_path):
    world.ends["c0"] = ["interrupted", "finished"]
    assert _conduct(world, tmp_path / "a", _cell("c0")).unfinished() == {}
    world.started.clear()
    world.ends["c0"] = ["interrupted"] * 9
    conductor = _conduct(world, tmp_path / "b", _cell("c0"))
    assert conductor.unfinished() == {"c0": "interrupted 3 times"}
    assert len(world.started) == 3


def test_remarks_of_a_start_are_repeated_with_the_cell_s_name(world, tmp_path):
    _conduct(world, tmp_path, _cell("c0"))
    assert "cell c0: note: a remark" in world.said


def test_a_study_that_is_stopped_starts_no_more_cells_until_it_is_started_again(world, tmp_path):
    cells = [_cell(f"c{n}", seed=n) for n in range(2)]
    study = Study("study", tuple(cells))
    save(study, tmp_path)
    conductor = Conductor(study, tmp_path, world.said.append, at_once=1)

    def show(progress, waiting):
        if progress[0].state == "finished":
            stop(study, tmp_path)

    conductor.run(show)
    assert world.started == ["c0"]
    assert world.said[-1] == "the study is stopped; start it again to go on"
    assert conductor.unfinished() == {"c1": "not started"}
    _conduct(world, tmp_path, *cells)
    assert world.started == ["c0", "c1"]


def test_two_commands_cannot_conduct_one_study(world, tmp_path):
    study = Study("study", (_cell("c0"),))
    save(study, tmp_path)
    first, second = (Conductor(study, tmp_path, print, at_once=1) for _ in range(2))

    def show(progress, waiting):
        with pytest.raises(UserError, match="in use by another command"):
            second.run(lambda progress, waiting: None)

    first.run(show)
