"""The files of a study's report, and how its page looks in a browser."""

from __future__ import annotations

import csv
import json
import re

import pytest

from deploy.study.report import answers, compare_study, write_study_report
from deploy.study.report.arms import study_of
from deploy.study.report.statistics import Estimate
from deploy.study.report.tables import Table, escape_latex
from tests.deploy.report.browser import CHROMIUM, browse, served
from tests.deploy.study.report.studies import FakeRun, Shares, cell

HOSTILE = '<b>bold</b> <script>document.title = "owned"</script> \u202egnp.exe & 50%'
FISHER = (1.5, 0.0004, 0.02)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of the study."""
    return tmp_path_factory.mktemp("rates")


@pytest.fixture(scope="module")
def cells(folder):
    """SFT and MixSD at two λ, three seeds each; the last cell is not finished."""
    made = []
    arms = [
        ({"method": "sft"}, {"method": {"name": "sft"}}, 6.0, 0.5),
        ({"method": "mixsd", "method.mix_rate": "0.3"}, _mixsd(0.3), 2.5, 0.8),
        ({"method": "mixsd", "method.mix_rate": "0.7"}, _mixsd(0.7), 1.2, 0.9),
    ]
    for labels, config, nll, kept in arms:
        for seed in range(3):
            held_out = {"gsm8k": 0.5 * kept, "two_hop": 0.2, "piqa": 0.6 * kept}
            path = [
                Shares(0.0, {"gsm8k": 0.5, "two_hop": 0.1, "piqa": 0.6}),
                Shares(0.5 + 0.1 * seed, held_out, FISHER),
            ]
            state = "failed" if (kept, seed) == (0.9, 2) else "finished"
            run = FakeRun(path, nll, state, texts={"recall-1": HOSTILE})
            made.append(cell(folder, {**labels, "seed": str(seed)}, config, run))
    return made


@pytest.fixture(scope="module")
def html(cells, folder):
    """The page of the study."""
    return write_study_report("rates", cells, folder).read_text()


def _mixsd(rate: float) -> dict:
    return {"method": {"name": "mixsd", "mix_rate": rate}}


def _rows(path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_the_numbers_are_means_over_the_finished_seeds(html, folder):
    rows = {row["method"]: row for row in _rows(folder / "tables" / "methods.csv")}
    assert list(rows) == ["base", "sft", "mixsd 0.3", "mixsd 0.7"]
    # Recall 0.5, 0.6, 0.7: 0.6 ± 4.3027 · 0.1 / √3.
    assert float(rows["sft"]["score"]) == pytest.approx(0.6)
    assert float(rows["sft"]["score high"]) == pytest.approx(0.6 + 0.2484, abs=1e-4)
    assert float(rows["sft"]["retention"]) == pytest.approx(0.5)
    # Without the cell that failed: 0.5 and 0.6.
    assert float(rows["mixsd 0.7"]["score"]) == pytest.approx(0.55)
    assert (rows["mixsd 0.7"]["seeds"], rows["sft"]["seeds"]) == ("2", "3")
    assert (rows["base"]["score"], rows["base"]["score low"]) == ("0.0", "")
    rates = _rows(folder / "tables" / "mixing_rates.csv")
    assert [row["λ"] for row in rates] == ["", "0.3", "0.7"]
    editing = _rows(folder / "tables" / "editing.csv")
    assert float(editing[1]["two_hop"]) == pytest.approx(0.2)
    assert not (folder / "tables" / "learning_rates.csv").exists()


def test_json_and_csv_have_what_the_page_shows(html, folder):
    numbers = json.loads((folder / "report.json").read_text())
    states = {one["name"]: one["state"] for one in numbers["cells"]}
    assert states["mixsd-0.7-2"] == "failed"
    (group,) = numbers["groups"]
    assert group["scope"]["in_domain"] == "recall"
    assert group["scope"]["held_out"] == ["gsm8k", "piqa"]
    arms = {one["arm"]: one for one in group["arms"]}
    assert arms["mixsd 0.3"]["estimates"]["target NLL"]["value"] == pytest.approx(2.5)
    assert arms["sft"]["estimates"]["D_F"]["value"] == pytest.approx(0.0004)
    assert len(numbers["pairs"]) == 6 * 3
    rows = _rows(folder / "report.csv")
    values = {(row["cell"], row["measure"]): row["value"] for row in rows}
    assert float(values["sft-2", "recall"]) == pytest.approx(0.7)
    (left_out,) = [row for row in rows if row["cell"] == "mixsd-0.7-2"]
    assert (left_out["state"], left_out["measure"]) == ("failed", "")


def test_the_page_is_self_contained_and_escapes_what_models_write(html, folder):
    assert not re.search(r"https?://", html)
    assert all(src.startswith("data:") for src in re.findall(r'src="([^"]+)"', html))
    assert all((folder / file).exists() for file in re.findall(r'href="([^"#]+)"', html))
    assert html.count("<script>") == 1
    assert "\u202e" not in html
    assert "&lt;script&gt;document.title" in html
    assert "8 of 9 cells are finished" in html
    assert "<li>mixsd-0.7-2: failed</li>" in html


def test_the_csv_has_the_answers_of_every_seed(html, folder):
    rows = _rows(folder / "tables" / "answers.csv")
    # 40 facts by 8 cells and by the base at three seeds.
    assert len(rows) == 40 * (8 + 3)
    assert {row["seed"] for row in rows if row["method"] == "sft"} == {"0", "1", "2"}
    assert {row["strict"] for row in rows} == {"0", "1"}
    assert all("\u202e" not in row["response"] for row in rows)
    assert html.count("<tr data-kinds=") == 40


def test_the_page_has_the_first_facts_at_the_first_seed(cells, folder, monkeypatch):
    monkeypatch.setattr(answers, "MOST_FACTS", 10)
    (table,) = answers.fact_tables(study_of("rates", cells, folder))
    assert (len(table.facts), table.more) == (10, 30)
    assert table.columns[:2] == (("base", ""), ("sft", "seed 0, step 24"))
    first = table.facts[0]
    assert (first.item, first.answer) == ("recall-0", "answer 0")
    shown = HOSTILE.replace("\u202e", "\\u202e")
    assert table.facts[1].answers[0] == answers.Answer(shown, right=False, strict=False)


def test_a_study_without_a_finished_cell_has_a_page(tmp_path):
    path = [Shares(0.0, {}), Shares(0.5, {})]
    waiting = cell(tmp_path, {"method": "sft"}, {"method": {"name": "sft"}}, FakeRun(path))
    waiting.run(tmp_path).config.unlink()
    html = write_study_report("early", [waiting], tmp_path).read_text()
    assert "<li>sft: not started</li>" in html
    assert "No cell is finished." in html


def test_a_cell_without_scores_does_not_stop_the_report(tmp_path):
    path = [Shares(0.0, {"gsm8k": 0.5}), Shares(0.5, {"gsm8k": 0.5})]
    sft = cell(tmp_path, {"method": "sft"}, {"method": {"name": "sft"}}, FakeRun(path))
    bare = cell(tmp_path, {"method": "mixsd"}, _mixsd(0.3), FakeRun([]))
    html = write_study_report("rates", [sft, bare], tmp_path).read_text()
    assert "2 of 2 cells are finished" in html
    assert "mixsd has no checkpoint with both scores" in html
    rows = {row["method"]: row for row in _rows(tmp_path / "tables" / "methods.csv")}
    assert float(rows["sft"]["held-out mean"]) == pytest.approx(0.5)
    assert rows["mixsd"]["held-out mean"] == ""


def test_the_terminal_shows_arms_and_what_is_left_out(cells, folder, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    compare_study(cells, folder)
    printed = capsys.readouterr().out
    (sft,) = [line for line in printed.splitlines() if " sft " in line]
    assert "0.600 ± 0.248" in sft
    assert "mixsd-0.7-2 is left out: failed" in printed


def test_learning_rates_and_their_scores_are_on_the_page(tmp_path):
    made = []
    for lr, recall in (("1e-05", 0.4), ("0.0001", 0.9)):
        path = [Shares(0.0, {"gsm8k": 0.5}), Shares(recall, {"gsm8k": 0.4})]
        factors = {"method": "sft", "learner.lr": lr, "seed": "0"}
        made.append(cell(tmp_path, factors, {"method": {"name": "sft"}}, FakeRun(path)))
    html = write_study_report("rates", made, tmp_path).read_text()
    assert "sft: 0.0001 is the highest learning rate that was tried" in html
    rows = _rows(tmp_path / "tables" / "learning_rates.csv")
    assert [(row["learning rate"], row["chosen"]) for row in rows] == [
        ("1e-05", ""),
        ("0.0001", "chosen"),
    ]
    assert "recall (strict)" in html


def test_latex_is_escaped_and_has_the_lines_of_booktabs():
    assert escape_latex("a_b & 50% λ") == r"a\_b \& 50\% $\lambda$"
    table = Table(
        *("methods", "Methods", "Means."),
        ("setting", "D_F"),
        (("a", Estimate(0.5, 0.25, 0.75, 3)), ("b", None)),
    )
    assert table.to_latex().splitlines() == [
        "% Methods: Means.",
        r"\begin{tabular}{ll}",
        r"\toprule",
        r"setting & D\_F \\",
        r"\midrule",
        r"a & 0.500 [0.250, 0.750] \\",
        r"\midrule",
        r"b &  \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]
    assert table.to_csv() == "setting,D_F,D_F low,D_F high,D_F n\na,0.5,0.25,0.75,3\nb,,,,\n"


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_a_browser_filters_the_answers_and_the_page_fits_a_phone(html, folder, tmp_path):
    (folder / "phone.html").write_text(
        '<iframe src="report.html" style="width:390px;height:800px;border:0"></iframe><script>'
        "onload = () => { const doc = document.querySelector('iframe').contentDocument;"
        "const root = doc.documentElement, search = doc.getElementById('search');"
        "search.value = 'recall-1? GNP'; search.dispatchEvent(new Event('input'));"
        "const drawn = [...doc.images].filter((i) => i.complete && i.naturalWidth > 100);"
        "document.title = `${root.scrollWidth - root.clientWidth} too wide, "
        "${doc.images.length - drawn.length} not drawn, "
        "${doc.getElementById('shown').textContent}, ${doc.title}` }</script>"
    )
    with served(folder) as port:
        found, errors = browse(port, "phone.html", tmp_path, "--dump-dom")
    assert "<title>0 too wide, 0 not drawn, 1 shown, rates – mixsd-cluster</title>" in found
    assert "CONSOLE" not in errors
