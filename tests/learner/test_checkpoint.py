import json

from learner import checkpoint


def write(root, step):
    folder = root / f"step_{step}"
    (folder / checkpoint.STATE).mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"step": step, "files": {}}))


def test_a_checkpoint_that_is_ahead_of_the_queue_is_skipped_and_said_so(tmp_path):
    """Its exposures are not on record: going on from it would train some of them twice."""
    for step in (10, 20):
        write(tmp_path, step)
    assert checkpoint.newest_sound(tmp_path, last_step=20)[0].step == 20
    found, problems = checkpoint.newest_sound(tmp_path, last_step=19)
    assert found.step == 10
    assert problems == [
        "checkpoint step_20 is skipped: the queue's file was cut short and knows steps up to 19"
    ]
    assert checkpoint.newest_sound(tmp_path, last_step=0)[0] is None
