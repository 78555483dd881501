"""Arms compared on the same items, at equal recall, and what goes with their forgetting."""

from __future__ import annotations

import pytest

from deploy.study.report.arms import study_of
from deploy.study.report.comparisons import at_equal_recall, compare_pairs
from deploy.study.report.correlations import ALL_GROUPS, associations
from tests.deploy.study.report.studies import FakeRun, Shares, cell

SFT = {"method": {"name": "sft"}}


def _mixsd(rate: float) -> dict:
    return {"method": {"name": "mixsd", "mix_rate": rate}}


def _path(*recall_and_kept: tuple[float, float]) -> list[Shares]:
    return [Shares(recall, {"gsm8k": kept, "piqa": kept}) for recall, kept in recall_and_kept]


def _arm(study, label: str, config: dict, seeds: str, path: list[Shares], **more):
    return [
        cell(study, {"method": label, "seed": seed}, config, FakeRun(path, **more))
        for seed in seeds
    ]


def _pair(cells, folder, first: str, second: str, benchmark: str = "recall"):
    (found,) = [
        one
        for one in compare_pairs(study_of("s", cells, folder).groups)
        if (one.first, one.second, one.benchmark) == (first, second, benchmark)
    ]
    return found


def test_one_seed_is_compared_by_mcnemar_s_test(tmp_path):
    # Both arms have the same order of items: 30 and 36 of 40 are right, so 6 differ, one way.
    cells = _arm(tmp_path, "sft", SFT, "1", _path((0, 1), (0.75, 0.5)))
    cells += _arm(tmp_path, "mixsd", _mixsd(0.3), "1", _path((0, 1), (0.9, 0.5)))
    found = _pair(cells, tmp_path, "sft", "mixsd")
    assert (found.only_first, found.only_second, found.items) == (0, 6, 40)
    assert found.difference.value == pytest.approx(6 / 40)
    assert found.difference.low < 6 / 40 < found.difference.high
    assert found.p == pytest.approx(2 / 2**6)
    # Pairs of base, sft and mixsd on recall, gsm8k and piqa: nine tests. Six of them, of the base
    # against an arm, have smaller p; gsm8k and piqa of the two arms are equal, p = 1.
    assert found.corrected == pytest.approx(3 * 2 / 2**6)


def test_seeds_are_pooled_by_item(tmp_path):
    cells = _arm(tmp_path, "sft", SFT, "12", _path((0, 1), (0.75, 0.5)))
    cells += _arm(tmp_path, "mixsd", _mixsd(0.3), "12", _path((0, 1), (0.9, 0.5)))
    found = _pair(cells, tmp_path, "sft", "mixsd")
    assert (found.seeds, found.items, found.only_second) == (("1", "2"), 40, 12)
    assert found.difference.value == pytest.approx(12 / 80)


def test_arms_with_other_items_are_not_paired(tmp_path):
    cells = _arm(tmp_path, "sft", SFT, "1", _path((0, 1), (0.5, 0.5)))
    cells += _arm(tmp_path, "mixsd", _mixsd(0.3), "1", _path((0, 1), (0.5, 0.5)), items=30)
    found = _pair(cells, tmp_path, "sft", "mixsd")
    assert found.not_paired == "seed 1: 30 of 40 items are in both arms"
    assert found.p is found.corrected is found.difference is None


def test_arms_without_a_common_seed_are_not_paired(tmp_path):
    cells = _arm(tmp_path, "sft", SFT, "1", _path((0, 1), (0.5, 0.5)))
    cells += _arm(tmp_path, "mixsd", _mixsd(0.3), "2", _path((0, 1), (0.5, 0.5)))
    found = _pair(cells, tmp_path, "sft", "mixsd")
    assert found.not_paired == "no seed is finished in both arms"


def test_an_arm_that_learns_more_is_compared_where_it_knew_as_much(tmp_path):
    # Recall 0.5 is half way to sft's 1.0, where it has kept (1 + 0.5) / 2.
    cells = _arm(tmp_path, "sft", SFT, "12", _path((0, 1), (1.0, 0.5)))
    cells += _arm(tmp_path, "mixsd", _mixsd(0.3), "12", _path((0, 1), (0.5, 0.9)))
    (group,) = study_of("s", cells, tmp_path).groups
    found = at_equal_recall(group)
    assert found.levels == {"1": 0.5, "2": 0.5}
    assert found.held_out["sft"].value == pytest.approx(0.75)
    difference = found.differences["sft", "mixsd"]
    assert (difference.value, difference.n) == (pytest.approx(0.15), 2)


def test_a_seed_that_an_arm_has_not_finished_is_not_compared(tmp_path):
    cells = _arm(tmp_path, "sft", SFT, "12", _path((0, 1), (1.0, 0.5)))
    cells += _arm(tmp_path, "mixsd", _mixsd(0.3), "1", _path((0, 1), (0.5, 0.9)))
    (group,) = study_of("s", cells, tmp_path).groups
    found = at_equal_recall(group)
    assert found.refused == {"2": "mixsd is not finished"}
    assert found.differences["sft", "mixsd"].low is None


def _rates(study, points: list[tuple[float, float]], **factors: str):
    """One arm for each (target NLL, share of the held-out score that is kept)."""
    made = []
    for number, (nll, kept) in enumerate(points):
        labels = {**factors, "method.mix_rate": f"0.{number}", "seed": "1"}
        run = FakeRun(_path((0, 1), (0.5, kept)), nll=nll)
        model = {"model": "packaged", "data": {"kgfact": {"seed": len(factors.get("corpus", ""))}}}
        made.append(cell(study, labels, {**_mixsd(number / 10), **model}, run))
    return made


def _association(cells, folder, group: str | None = None):
    found = associations(study_of("s", cells, folder).groups)
    (one,) = [one for one in found if one.measure == "target NLL" and group in (None, one.group)]
    return one


def test_target_nll_and_forgetting_are_correlated_over_arms(tmp_path):
    # Forgetting 0.1, 0.3, 0.2, 0.4 against 1, 2, 3, 4: r = ρ = 0.8.
    cells = _rates(tmp_path, [(1, 0.9), (2, 0.7), (3, 0.8), (4, 0.6)])
    found = _association(cells, tmp_path)
    assert found.forgetting == "1 − retention"
    assert found.points[0] == ("0.0", pytest.approx(1), pytest.approx(0.1))
    assert found.pearson.value == pytest.approx(0.8)
    assert found.spearman.value == pytest.approx(0.8)
    assert "no correlation shown" in found.verdict


def test_a_correlation_of_three_arms_is_refused(tmp_path):
    found = _association(_rates(tmp_path, [(1, 0.9), (2, 0.8), (3, 0.7)]), tmp_path)
    assert found.pearson is None
    assert found.verdict == "refused: 3 of at least 4 points"


def test_over_several_corpora_their_means_are_subtracted_first(tmp_path):
    # Within each corpus more NLL goes with more forgetting; the means go the other way.
    cells = _rates(tmp_path, [(1, 0.5), (2, 0.475), (3, 0.4)], corpus="a")
    cells += _rates(tmp_path, [(7, 0.9), (8, 0.85), (9, 0.825)], corpus="bb")
    found = _association(cells, tmp_path, ALL_GROUPS)
    assert len(found.points) == 6
    assert sum(x for _, x, _ in found.points) == pytest.approx(0)
    assert found.pearson.value > 0.9
    assert found.verdict.startswith("Pearson: positive correlation")


def test_without_two_held_out_benchmarks_forgetting_is_the_loss_of_the_score(tmp_path):
    cells = []
    for number, kept in enumerate((0.9, 0.8)):
        path = [Shares(0, {"gsm8k": 1.0}), Shares(0.5, {"gsm8k": kept})]
        factors = {"method.mix_rate": f"0.{number}", "seed": "1"}
        cells.append(cell(tmp_path, factors, _mixsd(number / 10), FakeRun(path)))
    found = _association(cells, tmp_path)
    assert found.forgetting == "held-out loss"
    assert [y for _, _, y in found.points] == pytest.approx([0.1, 0.2])
