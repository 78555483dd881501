"""All learning rates at a few seeds, and the chosen one at the others."""

from common.config.run_config import parse
from deploy.study.cells import Cell
from deploy.study.lr_stage import LrStage
from deploy.study.progress import CellProgress

RAW = {"method": {"name": "sft"}, "data": {"kgfact": {"domains": 5, "entities": 4}}}


def _cells(arm="sft", seeds=(0, 1), rates=("1e-05", "0.0001")):
    return [
        Cell(
            f"{arm}-{lr}-{seed}",
            {"method": arm, "learner.lr": lr, "seed": str(seed)},
            parse({**RAW, "name": "cell", "seed": seed, "learner": {"lr": float(lr)}}, "test"),
        )
        for lr in rates
        for seed in seeds
    ]


def _progress(cells, *finished):
    return [CellProgress(c, "finished" if c.name in finished else "not started") for c in cells]


def _stage(choice="1e-05"):
    said, asked = [], []

    def choose(cells):
        asked.append([cell.name for cell in cells])
        return choice

    return LrStage(["0"], choose, said.append), said, asked


def test_other_seeds_wait_until_every_rate_has_been_tried_at_the_first():
    stage, said, asked = _stage()
    found = stage.look(_progress(_cells(), "sft-1e-05-0"), set())
    assert [one.cell.name for one in found.waiting] == ["sft-1e-05-1", "sft-0.0001-1"]
    assert {one.reason for one in found.waiting} == {"the learning rate of sft"}
    assert (found.not_chosen, said, asked) == ((), [], [])


def test_then_only_the_chosen_rate_goes_on():
    stage, said, asked = _stage("0.0001")
    progress = _progress(_cells(), "sft-1e-05-0", "sft-0.0001-0")
    for _ in range(2):
        found = stage.look(progress, set())
        assert found.waiting == ()
        assert [cell.name for cell in found.not_chosen] == ["sft-1e-05-1"]
    assert asked == [["sft-1e-05-0", "sft-0.0001-0"]]
    assert said == ["arm sft: learning rate 0.0001 is chosen"]


def test_a_rate_whose_cell_failed_is_not_waited_for():
    stage, _, asked = _stage("0.0001")
    found = stage.look(_progress(_cells(), "sft-0.0001-0"), {"sft-1e-05-0"})
    assert asked == [["sft-0.0001-0"]]
    assert [cell.name for cell in found.not_chosen] == ["sft-1e-05-1"]


def test_an_arm_without_any_finished_cell_goes_no_further():
    stage, said, _ = _stage()
    found = stage.look(_progress(_cells()), {"sft-1e-05-0", "sft-0.0001-0"})
    assert [cell.name for cell in found.not_chosen] == ["sft-1e-05-1", "sft-0.0001-1"]
    assert said == ["arm sft: no learning rate can be chosen, since no cell has finished"]


def test_each_arm_has_a_choice_of_its_own():
    stage, _, asked = _stage()
    cells = [*_cells("sft"), *_cells("mixsd")]
    found = stage.look(_progress(cells, "sft-1e-05-0", "sft-0.0001-0"), set())
    assert asked == [["sft-1e-05-0", "sft-0.0001-0"]]
    assert [one.cell.arm for one in found.waiting] == ["mixsd", "mixsd"]


def test_without_lr_seeds_nothing_is_held_back():
    stage = LrStage(None, lambda cells: "1e-05", print)
    assert stage.look(_progress(_cells()), set()).names == set()
