"""Budget, processes and report of ``make bench-gpu``, on figures that nothing has measured."""

from __future__ import annotations

import json
import sys

import pytest

from tests.benchmarks.gpu import report
from tests.benchmarks.gpu.contenders import CONTENDERS
from tests.benchmarks.gpu.goals import EXPECTED, GOALS
from tests.benchmarks.gpu.processes import Contender, Outcome, Results, run, run_all, serve
from tests.benchmarks.gpu.profiling import activity_of
from tests.benchmarks.gpu.shapes import num_parameters

# -- budget ----------------------------------------------------------------


def nothing(device, folder):
    yield from ()


def test_no_contender_starts_when_the_budget_is_used_up():
    now, limits, ended = 0.0, dict[str, float](), list[str]()

    def start(name, limit_s):
        nonlocal now
        limits[name] = limit_s
        now += min(limit_s, 30.0)
        return Outcome({}, 30.0)

    contenders = {name: Contender((name,), 40.0, nothing) for name in "abcde"}
    results = Results("cuda")
    run_all(contenders, results, 70.0, start, ended.append, clock=lambda: now)
    # The third gets the 10 s that two of 30 s leave.
    assert limits == {"a": 40.0, "b": 40.0, "c": 10.0}
    assert ended == ["a", "b", "c"]
    assert results.left_out == ["d", "e"]


# -- processes -------------------------------------------------------------


def test_a_row_that_fails_is_named_with_its_reason_and_the_rows_before_it_stay(tmp_path):
    out = tmp_path / "rows.json"

    def rows():
        yield "first", {"tokens_per_s": 8.0}
        raise MemoryError("24 GiB\nare needed")

    serve(rows(), out)
    found = json.loads(out.read_text())
    assert found["rows"] == {"first": {"tokens_per_s": 8.0}}
    assert found["reason"] == "MemoryError: 24 GiB are needed"


def outcome_of(tmp_path, code, limit_s):
    """The outcome of a process that has written one row, and then runs ``code``."""
    out = tmp_path / "rows.json"
    written = json.dumps({"rows": {"first": {"tokens_per_s": 8.0}}, "reason": ""})
    program = f"open({str(out)!r}, 'w').write({written!r})\n{code}"
    return run([sys.executable, "-S", "-c", program], out, limit_s)


@pytest.mark.parametrize(
    ("code", "limit_s", "reason"),
    [
        ("", 60, ""),
        ("import os; os.kill(os.getpid(), 9)", 60, "its process ended with -9"),
        ("import time; time.sleep(60)", 3, "no result in 3 s"),
    ],
)
def test_the_rows_of_a_process_stay_however_it_ends(tmp_path, code, limit_s, reason):
    outcome = outcome_of(tmp_path, code, limit_s)
    assert outcome.rows == {"first": {"tokens_per_s": 8.0}}
    assert outcome.reason == reason


def test_the_end_of_a_failed_process_output_is_printed(tmp_path, capsys):
    outcome_of(tmp_path, "raise SystemExit('no driver')", 60)
    assert "no driver" in capsys.readouterr().out


# -- report ----------------------------------------------------------------

MACHINE = {"gpu": "NVIDIA H100", "matrix_flops": 700e12, "peak_flops": 989e12}
DECODING = {"step_ms": 12.0, "start_s": 60.0}
# Of a model of 1.5e9 parameters: 6 × 1.5e9 × 20,000 FLOP/s.
TRAINING = {"tokens_per_s": 20_000.0, "step_ms": 500.0, "train_flops": 180e12, "peak_gib": 40.0}


def results(device="cuda"):
    outcomes = {
        "machine": Outcome({"machine": MACHINE}, 9.0),
        "paired": Outcome(
            {
                "paired_0.3": {"tokens_per_s": 10_500.0, **DECODING},
                "paired_0.1": {"tokens_per_s": 11_000.0, **DECODING},
            },
            150.0,
        ),
        "vllm": Outcome(
            {"plain_vllm_async": {"tokens_per_s": 12_500.0, **DECODING}},
            300.0,
            "no result in 300 s",
        ),
        "learner_1.7b": Outcome({"learner_1.7b": TRAINING}, 40.0),
        "end_to_end": Outcome(
            {"end_to_end": {"seconds": 75.0, "phases": {"first rollout": 30.0}}}, 90.0
        ),
    }
    return Results(device, outcomes, left_out=["trl"])


def found(device="cuda"):
    chosen = {name: CONTENDERS[name] for name in (*results().outcomes, "trl")}
    return report.as_json(chosen, results(device))


def test_goals_are_met_missed_or_not_measured():
    states = {goal["goal"]: (goal["value"], goal["state"]) for goal in found()["goals"]}
    assert states == {
        # 10,500 / 12,500 and 11,000 / 12,500.
        "paired_0.3 / plain_vllm_async >= 0.8": (0.84, "met"),
        "paired_0.1 / plain_vllm_async >= 0.9": (0.88, "missed"),
        "paired_0.3 / one_call_a_token >= 7.5": (None, "not measured"),
        # 180 of 989 TFLOP/s.
        "learner_1.7b, mfu_of_peak >= 0.4": (0.182, "missed"),
        "learner_1.7b_batch_20, mfu_of_peak >= 0.2": (None, "not measured"),
        "learner_1.7b_zero_2 / learner_1.7b >= 0.9": (None, "not measured"),
        "learner_0.6b, tokens_per_s >= 40000": (None, "not measured"),
        "end_to_end, seconds <= 60": (75.0, "missed"),
    }


def test_rows_without_figures_are_null_and_have_a_reason():
    told = found()
    missing = {name for name, figures in told["rows"].items() if figures is None}
    assert missing == {"plain_async", "one_call_a_token", "learner_1.7b_batch_20", "trl"}
    assert told["reasons"] == {"vllm": "no result in 300 s"}
    assert told["left_out"] == ["trl"]


def test_rows_have_their_ratios_and_utilization():
    rows = found()["rows"]
    assert rows["paired_0.3"]["over_plain_vllm_async"] == 0.84
    assert rows["paired_0.3"]["over_one_call_a_token"] is None
    # 180 of 700 and of 989 TFLOP/s.
    assert rows["learner_1.7b"]["mfu_of_matmul"] == pytest.approx(0.25714)
    assert rows["learner_1.7b"]["mfu_of_peak"] == pytest.approx(0.182)


def test_the_table_shows_figures_beside_what_was_expected():
    text = report.text(found())
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "paired_0.3 10,500 12 60 0.84 - 10,700 predicted" in lines
    assert "learner_1.7b 20,000 500 0.257 0.182 - - 40 13,000 before" in lines
    assert "end_to_end: seconds 75 (first rollout 30)" in text
    assert "goal paired_0.1 / plain_vllm_async >= 0.9: 0.88, missed" in text
    assert "vllm has failed: no result in 300 s" in text
    assert "the budget left out trl" in text


def test_a_trial_on_a_cpu_says_so_and_judges_no_goal():
    assert report.text(found("cpu")).startswith("a trial on the CPU")
    assert found("cpu")["trial"] is True
    assert {goal["state"] for goal in found("cpu")["goals"]} == {"trial"}


def test_goals_and_expectations_name_rows_that_are_measured():
    rows = {row for contender in CONTENDERS.values() for row in contender.rows}
    assert {name for goal in GOALS for name in (goal.row, goal.over) if name} <= rows
    assert EXPECTED.keys() <= rows


# -- figures ---------------------------------------------------------------


def test_the_gpu_is_busy_while_any_kernel_runs():
    events: list[dict[str, object]] = [
        {"cat": "kernel", "name": "gemm", "ts": 10.0, "dur": 20.0},
        # Overlaps the first by 5 µs.
        {"cat": "kernel", "name": "copy", "ts": 25.0, "dur": 15.0},
        {"cat": "gpu_memset", "name": "Memset", "ts": 100.0, "dur": 4.0},
        {"cat": "gpu_user_annotation", "name": "step", "ts": 0.0, "dur": 500.0},
        {"cat": "cuda_runtime", "name": "cudaLaunchKernel", "ts": 1.0, "dur": 3.0},
        {"cat": "cuda_driver", "name": "cuLaunchKernelEx", "ts": 5.0, "dur": 3.0},
        {"cat": "cuda_runtime", "name": "cudaMemsetAsync", "ts": 9.0, "dur": 3.0},
        {"ph": "M", "name": "process_name"},
    ]
    activity = activity_of(events)
    # 10 to 40, and 100 to 104.
    assert activity.busy_s == pytest.approx(34e-6)
    assert activity.launches == 2


def test_shapes_have_the_parameters_of_qwen3():
    # An embedding that is also the head; 28 layers of attention, MLP and norms; the last norm.
    attention = 2048 * 2048 * 2 + 2 * 2048 * 1024
    layer = attention + 3 * 2048 * 6144 + 2 * 2048 + 2 * 128
    assert num_parameters("1.7b") == 151_936 * 2048 + 28 * layer + 2048
