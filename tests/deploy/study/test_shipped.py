"""The studies that come with the project."""

from pathlib import Path

import pytest

from deploy.study import dry_run, folder
from deploy.study.sharing import targets_key

STUDIES = Path(__file__).parents[3] / "studies"
CELLS = {
    "smoke": 15,
    "paper-table1": 720,
    "paper-table2": 150,
    "paper-table3": 240,
    "paper-table4": 180,
    "figure2": 21,
    "fisher": 54,
}


@pytest.mark.parametrize("name", CELLS)
def test_a_shipped_study_has_as_many_cells_as_its_page_says(name):
    study = folder.read(STUDIES / f"{name}.yaml")
    assert len(study.cells) == CELLS[name]
    page = (STUDIES.parent / "docs/studies.md").read_text()
    assert f"| `studies/{name}.yaml` | {CELLS[name]} |" in page
    assert study.name not in {path.stem for path in (STUDIES.parent / "configs").glob("*.yaml")}


def test_every_shipped_study_is_known_here():
    assert {path.stem for path in STUDIES.glob("*.yaml")} == set(CELLS)


def test_the_smoke_study_compares_five_arms_at_three_seeds_with_fisher_alignment():
    cells = folder.read(STUDIES / "smoke.yaml").cells
    arms = {}
    for cell in cells:
        arms.setdefault(cell.arm, []).append(cell.config.seed)
    assert arms == {arm: [0, 1, 2] for arm in ("sft", "opsd", "mixsd 0", "mixsd 0.1", "mixsd 0.3")}
    assert all(cell.config.evaluator.fisher is not None for cell in cells)


def test_learning_rates_of_one_arm_and_seed_share_their_targets():
    cells = folder.read(STUDIES / "paper-table2.yaml").cells
    keys = {targets_key(cell.config) for cell in cells}
    # 2 corpora, SFT and four rates, 3 seeds: a fifth of the 150 cells.
    assert len(keys) == 30


def test_a_dry_run_names_each_cell_its_time_and_whose_targets_it_gets(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(
        f"name: dry\nbase: {STUDIES.parent}/configs/smoke.yaml\n"
        "axes: {learner.lr: [1e-5, 1e-4], seed: [0]}"
    )
    header, first, second, total = dry_run.lines(folder.read(path), "h100")
    assert header.split() == ["cell", "time", "GPUs", "GPU-hours", "targets"]
    assert first.startswith("lr1e-05-seed0")
    assert first.endswith("drawn")
    assert second.endswith("of lr1e-05-seed0")
    assert total.startswith("2 cells: ")
    plans = list(dry_run.plans(folder.read(path), "h100"))
    assert plans[1].seconds < plans[0].seconds
    assert {plan.problems for plan in plans} == {()}
