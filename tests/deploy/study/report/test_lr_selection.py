"""The learning rate of an arm is chosen on items that are not reported."""

from __future__ import annotations

import hashlib

import pytest

from deploy.study.report.arms import study_of
from deploy.study.report.items import is_reported, is_validation
from deploy.study.report.lr_selection import Candidate, choose_from_cells, choose_lr, has_choice
from tests.deploy.study.report.studies import FakeRun, Shares, cell


def _candidate(lr: float, validation: dict[str, float], held_out: dict[str, float] | None = None):
    return Candidate(lr, f"{lr:g}", validation, held_out or {})


def test_the_highest_mean_over_the_common_seeds_is_chosen():
    chosen = choose_lr(
        [
            _candidate(1e-4, {"0": 0.9, "1": 0.5}),
            _candidate(1e-5, {"0": 0.6, "1": 0.6}),
            _candidate(3e-5, {"0": 0.8, "1": 0.7}),
        ]
    )
    assert (chosen.label, chosen.edge, chosen.seeds) == ("3e-05", None, ("0", "1"))
    assert chosen.scores == {
        "1e-05": (pytest.approx(0.6), None),
        "3e-05": (pytest.approx(0.75), None),
        "0.0001": (pytest.approx(0.7), None),
    }


def test_seeds_that_one_candidate_alone_has_do_not_count():
    # Later seeds are run at the chosen rate only; they must not change the choice.
    first = [_candidate(1e-5, {"0": 0.8}), _candidate(1e-4, {"0": 0.7})]
    later = [_candidate(1e-5, {"0": 0.8, "1": 0.1}), _candidate(1e-4, {"0": 0.7})]
    assert choose_lr(first).label == choose_lr(later).label == "1e-05"


def test_a_tie_goes_to_the_higher_held_out_score_then_to_the_smaller_rate():
    tie = {"0": 0.1 + 0.2}, {"0": 0.3}
    held_out = {"0": 0.5}, {"0": 0.6}
    assert choose_lr([_candidate(1e-5, tie[0]), _candidate(1e-4, tie[1])]).label == "1e-05"
    kept = [_candidate(1e-5, tie[0], held_out[0]), _candidate(1e-4, tie[1], held_out[1])]
    assert choose_lr(kept).label == "0.0001"
    # A held-out score that only one of them has decides nothing.
    partly = [_candidate(1e-5, tie[0]), _candidate(1e-4, tie[1], held_out[1])]
    assert choose_lr(partly).label == "1e-05"


@pytest.mark.parametrize(("best", "edge"), [(0, "lowest"), (1, None), (2, "highest")])
def test_a_choice_at_the_edge_of_the_grid_is_known_as_one(best, edge):
    rates = [_candidate(lr, {"0": float(n == best)}) for n, lr in enumerate((1e-6, 1e-5, 1e-4))]
    assert choose_lr(rates).edge == edge


def test_a_candidate_without_a_finished_cell_is_named():
    chosen = choose_lr([_candidate(1e-5, {"0": 0.8}), _candidate(1e-4, {})])
    assert (chosen.label, chosen.unfinished) == ("1e-05", ["0.0001"])


def test_nothing_is_chosen_without_a_common_seed():
    assert choose_lr([_candidate(1e-5, {"0": 0.8}), _candidate(1e-4, {"1": 0.9})]).label is None
    assert choose_lr([_candidate(1e-5, {})]).label is None


def test_half_of_the_items_validate_by_the_hash_of_their_id():
    ids = [f"person-{number}" for number in range(2000)]
    validation = [item for item in ids if is_validation(item)]
    # 1000 ± 4 standard deviations of 22.
    assert 910 < len(validation) < 1090
    assert all(is_reported(item) != is_validation(item) for item in ids)
    assert is_validation("a") == (hashlib.sha256(b"a").hexdigest()[1] in "02468ace")


@pytest.fixture
def cells(tmp_path):
    """Recall of the base's order: the first items are right, those that validate before others."""

    def made(lr: str, seed: str, recall: float):
        factors = {"method": "sft", "learner.lr": lr, "seed": seed}
        path = [Shares(0.0, {"gsm8k": 0.5}), Shares(recall, {"gsm8k": 0.4})]
        return cell(tmp_path, factors, {"method": {"name": "sft"}}, FakeRun(path))

    return [made("1e-05", "0", 0.5), made("0.0001", "0", 0.9), made("0.0001", "1", 0.8)]


def test_the_choice_reads_the_validation_half_and_the_report_the_other(cells, tmp_path):
    chosen = choose_from_cells(cells, tmp_path)
    assert (chosen.label, chosen.edge, chosen.seeds) == ("0.0001", "highest", ("0",))
    (group,) = study_of("rates", cells, tmp_path).groups
    (arm,) = group.trained
    assert arm.choice == chosen
    items = [f"recall-{number}" for number in range(40)]
    halves = len([one for one in items if is_validation(one)]), len([*filter(is_reported, items)])
    assert sum(halves) == 40
    # 36 of 40 answers are right: what one half lacks, the other has.
    validation = chosen.scores["0.0001"][0] * halves[0]
    reported = arm.values["0"]["recall"] * halves[1]
    assert validation + reported == pytest.approx(36)
    assert sorted(arm.cells) == ["0", "1"]


def test_a_study_with_one_learning_rate_reports_all_items(cells, tmp_path):
    fixed = [one for one in cells if one.factors["learner.lr"] == "0.0001"]
    assert has_choice(cells)
    assert not has_choice(fixed)
    (group,) = study_of("rates", fixed, tmp_path).groups
    assert group.trained[0].choice is None
    assert group.trained[0].values["0"]["recall"] == pytest.approx(0.9)
