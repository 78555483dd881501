import json
import re

from common.rundir import RunDir
from deploy.observability import status as view
from deploy.observability.run_status import RunStatus, RunView
from deploy.observability.throughput import EvaluationProgress, Speed, evaluation_progress, speed

SCORE = {"value": 0.25, "low": 0.05, "high": 0.7, "n": 4, "unit": "fraction"}


def _file(**changes):
    return {
        "run": "toy",
        "state": "running",
        "cause": "",
        "method": "mixsd",
        "began": 100.0,
        "updated": 165.0,
        "metrics_url": "http://127.0.0.1:1/metrics",
        "roles": {
            "rollout-0": {"state": "up", "since": 110.0, "restarts": 2},
            "learner": {"state": "starting", "since": 120.0, "restarts": 0},
            "evaluator-0": {"state": "up", "since": 110.0, "restarts": 0},
        },
        "queue": {
            "work": 40,
            "accepted": 18,
            "exhausted": 2,
            "quarantined": 0,
            "attempts": 50,
            "depth": 8,
            "exposures_expected": 480,
            "exposures_sampled": 120,
            "exposures_trained": 0,
            "total_steps": 48,
            "waiting": {"sample": "8 rollouts wait, fewer than a batch"},
        },
        "learner": {"step": 12.0, "loss": 2.5},
        "analyses": {},
        "scores": {"step_0": {"recall": SCORE, "text_nll": {"not_measured": "x"}}},
        "evaluating": {"evaluator-0": {"done": 12, "total": 40, "seconds_left": 61.0}},
        "speed": {"rollout_tokens": 52.4, "learner_tokens": 201.6, "step_seconds": 3.5},
        "seconds_left": 126.0,
        **changes,
    }


def _status(**changes):
    return RunView.from_json(_file(**changes))


def test_the_lines_show_progress_speed_and_what_each_side_waits_for():
    lines = view.lines(_status())
    assert lines[0] == "run        toy: running, method mixsd, 1 min 5 s"
    assert lines[1] == "rollouts   ████████████░░░░░░░░░░░░ 18/40 accepted, 52 tokens/s"
    assert lines[3] == "exposures  ██████░░░░░░░░░░░░░░░░░░ 120/480, 0 committed"
    assert "time       3.5 s a step, about 2 min 6 s left" in lines
    assert "waiting    sample: 8 rollouts wait, fewer than a batch" in lines
    assert "roles      rollout-0 up (2 restarts)" in lines
    assert "           learner starting, 45 s" in lines
    assert "           evaluator-0 up, 12 of 40 items measured, 1 min 1 s left" in lines
    assert "scores     step_0: recall 0.250" in lines
    assert max(map(len, lines)) <= 80


def test_a_live_run_shows_its_last_event():
    events = [{"time": 100.0, "text": "older"}, {"time": 160.0, "text": " ".join(12 * ["long"])}]
    shown = [line for line in view.lines(_status(events=events)) if "long" in line]
    assert re.fullmatch(r"event      \d\d:\d\d:\d\d( long){12}", shown[0])
    events[1]["text"] = " ".join(20 * ["long"])
    shown = [line for line in view.lines(_status(events=events)) if "long" in line]
    assert len(shown) == 2
    assert max(map(len, shown)) <= 80
    assert not [line for line in view.lines(_status(state="finished")) if line.startswith("event")]


def test_the_newest_fisher_alignment_has_a_line():
    fisher = {"alignment": 1.25, "weighted": 0.0375, "raw": 12.0}
    found = {
        "step_0": {},
        "step_24": {"fisher": fisher},
        "step_48": {"fisher": {"not_measured": ""}},
    }
    (line,) = [one for one in view.lines(_status(analyses=found)) if one.startswith("fisher")]
    assert line == "fisher     step_24: alignment 1.250, D_F 0.0375, |move|² 12"


def test_a_run_that_has_not_begun_shows_its_roles_only():
    lines = view.lines(_status(queue=None, learner={}, scores={}, state="starting"))
    assert [line.split()[0] for line in lines] == [
        "run",
        "roles",
        "learner",
        "evaluator-0",
        "page",
    ]


def test_without_training_no_exposures_are_shown():
    queue = {**_file()["queue"], "exposures_expected": 0, "exposures_sampled": 0}
    shown = {line.split()[0] for line in view.lines(_status(queue=queue, learner={}))}
    assert "rollouts" in shown
    assert "exposures" not in shown


def test_the_line_for_logs_holds_the_same_figures():
    assert view.plain_line(_status()) == (
        "running | rollouts 18/40 | attempts 50 | dropped 2 | depth 8 | step 12/48 | loss 2.500"
        " | about 2 min 6 s left | step_0: recall 0.25 | rollout-0 restarted 2 times"
    )


def test_no_role_of_an_ended_run_is_up(tmp_path):
    run = RunDir(tmp_path)
    roles = {name: {"state": state} for name, state in (("replay", "up"), ("learner", "done"))}
    for state, shown in (("finished", "ended"), ("interrupted", "up")):
        run.status.write_text(json.dumps(_file(state=state, roles=roles)))
        found = view.read(run).roles
        assert (found["replay"].state, found["learner"].state) == (shown, "done")


def test_speed_is_taken_over_the_last_ten_steps(tmp_path):
    run = RunDir(tmp_path)
    # Twelve steps: the first, slow one is outside the window, and one wait is not the pace.
    ends = [0.0, *(50.0 + 3.0 * step for step in range(10)), 200.0]
    steps = [{"seconds": 2.0, "tokens": 300, "time": end, "exposures": []} for end in ends]
    steps[0] |= {"seconds": 50.0, "tokens": 10}
    run.steps.write_text("".join(json.dumps(step) + "\n" for step in steps))
    assert speed(run) == Speed(None, learner_tokens=150.0, step_seconds=3.0, repeat_seconds=3.0)


def test_steps_that_wait_for_new_targets_are_not_those_that_repeat(tmp_path):
    run = RunDir(tmp_path)
    # The first three wait for their targets; the last two are too few to tell.
    ends, epochs = (9.0, 18.0, 27.0, 36.0, 39.0, 42.0), (0, 0, 0, 0, 1, 1)
    steps = [
        {"seconds": 2.0, "tokens": 300, "time": end, "exposures": [["a", 0, 1], ["b", 0, epoch]]}
        for end, epoch in zip(ends, epochs, strict=True)
    ]
    run.steps.write_text("".join(json.dumps(step) + "\n" for step in steps))
    assert (speed(run).step_seconds, speed(run).repeat_seconds) == (9.0, None)


def test_a_restarted_actor_counts_its_tokens_from_zero(tmp_path):
    run = RunDir(tmp_path)

    def line(time, **tokens):
        series = {name: {"mixsd_rollout_tokens_total": value} for name, value in tokens.items()}
        return json.dumps({"time": time, "series": series}) + "\n"

    run.metrics.write_text(line(0.0, a=1000, b=100) + line(10.0, a=40, b=260))
    # a drew 40 since its restart, b 160 since the first line.
    assert speed(run).rollout_tokens == 20.0


def test_time_left_is_that_of_the_current_benchmark_at_its_rate(tmp_path):
    run = RunDir(tmp_path)
    # The end of another benchmark, then 6 items in 4 s: the 32 that are left take 21.3 s.
    counts = [(10.0, 8, 9), (12.0, 9, 9), (14.0, 2, 40), (16.0, 5, 40), (18.0, 8, 40)]
    run.metrics.write_text(
        "".join(
            json.dumps(
                {
                    "time": time,
                    "series": {
                        "evaluator-0": {"mixsd_eval_items_done": done, "mixsd_eval_items": total},
                        "evaluator-1": {"mixsd_eval_items_done": 3, "mixsd_eval_items": 3},
                        "learner-0": {},
                    },
                }
            )
            + "\n"
            for time, done, total in counts
        )
    )
    (found,) = evaluation_progress(run).items()
    assert found[0] == "evaluator-0"
    assert found[1] == EvaluationProgress(8, 40, seconds_left=32 * 4.0 / 6)


def test_a_status_of_another_version_keeps_its_keys(tmp_path):
    run = RunDir(tmp_path)
    older = {"state": "running", "roles": {"learner": {"state": "up"}}, "queue": {"work": 4}}
    newer = {**_file(), "unknown": {"x": [1]}, "queue": {**_file()["queue"], "unknown": 2}}
    for written in (older, newer):
        run.status.write_text(json.dumps(written))
        status = RunStatus.load(run)
        assert status is not None
        assert status.to_json() == written


def test_causes_and_names_cannot_control_the_terminal():
    attack = "\x1b]0;owned\x07"
    role = {"state": "up", "since": 110.0, "restarts": 1}
    status = _status(state="failed", cause=f"learner: {attack}", roles={attack: role})
    lines = view.lines(status)
    assert r"cause      learner: \x1b]0;owned\x07" in lines
    assert "\x1b" not in "".join(lines) + view.plain_line(status)
