"""The axes of a study and the cells that they make."""

import pytest

from common.errors import UserError
from deploy.study import folder, grid, settings

BASE = """
name: base
method: {name: mixsd, mix_rate: 0.3}
data: {kgfact: {domains: 5, entities: 4}, limit: 8}
learner: {epochs: 2, batch_size: 4}
"""


@pytest.fixture
def study(tmp_path):
    """The cells of a study that is written as ``axes`` over a small base."""
    (tmp_path / "base.yaml").write_text(BASE)

    def study(axes, **rest):
        more = "".join(f"{key}: {value}\n" for key, value in rest.items())
        path = tmp_path / "study.yaml"
        path.write_text(f"name: grid\nbase: base.yaml\n{more}axes:\n{axes}")
        return grid.expand(settings.load(path), path)

    return study


def test_a_cell_is_made_of_one_level_of_each_axis_the_last_axis_varying_fastest(study):
    cells = study("  learner.lr: [1e-5, 0.0001]\n  seed: [0, 1]")
    assert [cell.name for cell in cells] == [
        *("lr1e-05-seed0", "lr1e-05-seed1", "lr0.0001-seed0", "lr0.0001-seed1")
    ]
    assert [(cell.config.learner.lr, cell.config.seed) for cell in cells] == [
        *((1e-5, 0), (1e-5, 1), (1e-4, 0), (1e-4, 1))
    ]
    assert cells[3].factors == {"learner.lr": "0.0001", "seed": "1"}
    assert all(cell.config.name == cell.name for cell in cells)


def test_only_the_cells_of_a_level_vary_the_level_s_own_axes(study):
    cells = study(
        "  method:\n"
        "    sft: {method: {name: sft}}\n"
        "    mixsd: {method: {name: mixsd}, axes: {method.mix_rate: [0, 0.1]}}\n"
        "  seed: [3, 4]"
    )
    assert [cell.name for cell in cells] == [
        *("sft-seed3", "sft-seed4", "mixsd-mix_rate0-seed3", "mixsd-mix_rate0-seed4"),
        *("mixsd-mix_rate0.1-seed3", "mixsd-mix_rate0.1-seed4"),
    ]
    assert [cell.arm for cell in cells[::2]] == ["sft", "mixsd 0", "mixsd 0.1"]
    assert cells[0].config.method.name == "sft"
    assert cells[4].config.method.mix_rate == 0.1


def test_an_arm_has_neither_seed_nor_learning_rate_and_a_trial_has_no_seed(study):
    (cell,) = study("  method.mix_rate: [0.5]\n  learner.lr: [1e-4]\n  seed: [0]")
    assert cell.arm == "0.5"
    assert cell.trial == "0.5 0.0001"


def test_a_level_may_be_a_file_and_is_called_by_its_name(study, tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models/tiny.yaml").write_text("model: here/tiny")
    (tmp_path / "models/wide.yaml").write_text("extends: tiny.yaml\nengine: {max_model_len: 512}")
    cells = study("  model: [models/tiny.yaml, models/wide.yaml]\n  seed: [0]")
    assert [cell.name for cell in cells] == ["tiny-seed0", "wide-seed0"]
    assert [cell.config.model for cell in cells] == ["here/tiny"] * 2
    assert cells[1].config.engine.max_model_len == 512


def test_settings_of_the_study_lie_over_its_base_and_under_its_levels(study):
    cells = study("  learner.lr: [1e-4]", settings="{learner: {lr: 0.5, epochs: 3}}")
    assert (cells[0].config.learner.lr, cells[0].config.learner.epochs) == (1e-4, 3)


def test_long_names_are_cut_and_stay_apart(study):
    label = "a-very-long-label-of-a-level-that-nobody-would-want-to-type"
    cells = study(f"  method:\n    {label}: {{method: {{name: sft}}}}\n  seed: [1000, 2000]")
    names = [cell.name for cell in cells]
    assert len(set(names)) == 2
    assert max(map(len, names)) <= 64


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ("  seed: []", "axes.seed: no levels"),
        ("  method: [{method: {name: sft}}]", "settings in a list have no label"),
        ("  my axis: [1]", "must be the name of a setting"),
        ("  learner.lr: [2]", "cell lr2: .*study.yaml: learner.lr: .*less than or equal to 1"),
        ("  learner.rate: [1]", "cell rate1: .*learner.rate: no such setting"),
        ("  seed: [1, 1]", "two cells have the name seed1"),
        ("  seed:\n    one: 1\n    two: 1", "cells one and two have the same configuration"),
        ("  model: [missing.yaml]", "missing.yaml: cannot be read"),
        ("  seed:\n    a: {seed: 1, axes: {seed: [2]}}", "seed is in two axes"),
        ("  seed:\n    a: {axes: 3}", "expected a mapping of axes"),
    ],
)
def test_what_makes_no_cells_is_refused_with_its_place(study, axes, message):
    with pytest.raises(UserError, match=message):
        study(axes)


def test_a_key_that_a_study_does_not_have_is_refused_with_those_it_has(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text("name: s\naxis: {seed: [1]}")
    with pytest.raises(UserError, match=r"axis: .*a study has name, base, settings, axes"):
        settings.load(path)


def test_too_many_cells_are_refused_before_they_are_made(study):
    with pytest.raises(UserError, match="more than 4096 cells"):
        study(f"  seed: {list(range(5000))}")


def test_lr_seeds_need_learning_rates_and_their_seeds(study):
    with pytest.raises(UserError, match=r"there is no axis learner.lr"):
        study("  seed: [0, 1]", lr_seeds="[0]")
    with pytest.raises(UserError, match="7 is not a level of the axis seed"):
        study("  seed: [0, 1]\n  learner.lr: [1e-5]", lr_seeds="[7]")


def test_a_study_that_was_started_is_read_back_from_its_folder(tmp_path):
    (tmp_path / "base.yaml").write_text(BASE)
    path = tmp_path / "study.yaml"
    path.write_text("name: grid\nbase: base.yaml\naxes: {seed: [0, 1]}\nat_once: 2")
    study = folder.read(path)
    folder.save(study, tmp_path / "runs/grid")
    assert folder.load(tmp_path / "runs/grid") == study
    with pytest.raises(UserError, match=r"no study 'other' in .*; there are: grid"):
        folder.load(tmp_path / "runs/other")
