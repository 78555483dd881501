"""Which checkpoint training resumes from, and what becomes of the others. Nothing is lost."""

from __future__ import annotations

import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common import durable
from common.errors import UserError
from common.weights import file_hash
from learner.checkpoint import Manifest, existing, state_files
from learner.checkpoint_folder import CheckpointFolder


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "checkpoints"
    root.mkdir()
    return root


def save(root, *steps):
    """Checkpoints of these steps with one file of weights and one of state."""
    folder = CheckpointFolder(root)
    for step in steps:
        staging = folder.staging(step, 1)
        (staging / "state").mkdir(parents=True)
        names = ["model.safetensors", "state/rank-0.safetensors"]
        for name in names:
            (staging / name).write_text(f"{name} of step {step}")
        manifest = Manifest.of(step, 7, {name: file_hash(staging / name) for name in names})
        (staging / "manifest.json").write_text(json.dumps(manifest.to_json()))
        folder.publish(staging, step)
    return folder


def listed(root):
    return [(each.step, each.resumable) for each in existing(root)]


def files(root):
    """Every file below ``root``: path and content."""
    return {
        str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()
    }


def test_training_resumes_from_the_newest(root):
    folder = save(root, 2, 10, 4)
    found = folder.resume_point(last_step=10)
    assert (found.step, found.aside) == (10, {})
    assert CheckpointFolder(root / "none").resume_point(last_step=0).step == 0


def test_exports_count_for_no_state_that_is_kept(root):
    folder = save(root, 1, 2, 5)
    _export(folder, 3, 4, 6)
    folder.retire(keep_states=2, keep_exports=None)
    assert listed(root) == [(6, False), (5, True), (4, False), (3, False), (2, True), (1, False)]
    # The three newest, and the two with state.
    folder.retire(keep_states=2, keep_exports=3)
    assert listed(root) == [(6, False), (5, True), (4, False), (2, True)]


def test_training_resumes_from_the_newest_that_is_no_export(root):
    folder = save(root, 2)
    _export(folder, 3)
    found = folder.resume_point(last_step=3)
    assert found.step == 2
    assert found.aside == {root / "step_3": "it has no training state"}


def _export(folder, *steps):
    for step in steps:
        staging = folder.staging(step, 1)
        staging.mkdir(parents=True)
        (staging / "model.safetensors").write_text(f"export {step}")
        files = {"model.safetensors": file_hash(staging / "model.safetensors")}
        manifest = Manifest.of(step, 7, files)
        (staging / "manifest.json").write_text(json.dumps(manifest.to_json()))
        folder.publish(staging, step)


def test_a_changed_byte_is_noticed_and_the_checkpoint_before_is_used(root):
    folder = save(root, 1, 2)
    (root / "step_2/model.safetensors").write_text("model.safetensors of step 3")
    found = folder.resume_point(last_step=2)
    assert found.step == 1
    assert found.aside == {root / "step_2": "model.safetensors does not match its hash"}


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda at: (at / "state/rank-0.safetensors").unlink(), "state/rank-0.safetensors is mis"),
        (lambda at: (at / "manifest.json").unlink(), "manifest.json is missing"),
        (lambda at: (at / "manifest.json").write_text("{"), "manifest.json is not one"),
        (lambda at: (at / "manifest.json").write_text('{"step": 2}'), "manifest.json is not one"),
    ],
)
def test_any_damage_leads_to_the_checkpoint_before(root, spoil, why):
    folder = save(root, 1, 2)
    spoil(root / "step_2")
    found = folder.resume_point(last_step=2)
    assert found.step == 1
    assert found.aside[root / "step_2"].startswith(why)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_no_change_of_a_manifest_is_believed_or_ends_the_run(tmp_path_factory, data):
    root = tmp_path_factory.mktemp("mutated") / "checkpoints"
    root.mkdir()
    folder = save(root, 1, 2)
    path = root / "step_2/manifest.json"
    content = path.read_bytes()
    at = data.draw(st.integers(0, len(content) - 1), "at")
    cut = data.draw(st.integers(0, 4), "cut")
    put = data.draw(st.binary(max_size=4) | st.sampled_from([b"null", b"9", b"[", b"1e999"]), "put")
    path.write_bytes(content[:at] + put + content[at + cut :])
    found = folder.resume_point(last_step=2)
    if found.step == 2:
        # Only the spelling changed, such as a space more.
        assert found.checkpoint.manifest.num_updates == 7
        assert set(found.checkpoint.manifest.files) == set(json.loads(content)["files"])
    else:
        assert found.step == 1


def test_the_states_of_twelve_ranks_come_in_the_order_of_the_ranks(root):
    """Each holds the random numbers of its own rank."""
    (root / "step_1/state").mkdir(parents=True)
    for rank in (11, 2, 10, 0, 1, 3, 4, 5, 6, 7, 8, 9):
        (root / f"step_1/state/rank-{rank}.safetensors").write_text(str(rank))
    read = [int(path.read_text()) for path in state_files(root / "step_1")]
    assert read == list(range(12))


def test_a_manifest_of_another_step_is_damage(root):
    folder = save(root, 1, 2)
    (root / "step_2").rename(root / "step_3")
    found = folder.resume_point(last_step=3)
    assert (found.step, found.aside) == (1, {root / "step_3": "manifest.json is that of step 2"})


def test_a_disk_error_is_damage_but_a_server_that_does_not_answer_is_not(root, monkeypatch):
    folder = save(root, 1, 2)
    broken = os.strerror(5)

    def fail(number):
        def hash_of(path):
            if "step_2" in str(path):
                raise OSError(number, os.strerror(number))
            return file_hash(path)

        monkeypatch.setattr("learner.checkpoint.file_hash", hash_of)

    fail(5)
    found = folder.resume_point(last_step=2)
    assert found.aside == {root / "step_2": f"model.safetensors cannot be read ({broken})"}
    fail(116)
    with pytest.raises(OSError, match="Stale file handle"):
        folder.resume_point(last_step=2)


def test_what_is_set_aside_keeps_every_file_and_gets_a_name_of_its_own(root):
    folder = save(root, 8)
    first = files(root / "step_8")
    assert folder.set_aside(root / "step_8") == root / ".superseded/step_8"
    save(root, 8)
    assert folder.set_aside(root / "step_8") == root / ".superseded/step_8-2"
    assert files(root / ".superseded/step_8") == first
    assert listed(root) == []


def test_a_folder_that_is_in_the_way_is_set_aside(root):
    (root / "step_4").mkdir()
    (root / "step_4/half").write_text("what a kill left")
    save(root, 4)
    assert listed(root) == [(4, True)]
    assert (root / ".superseded/step_4/half").read_text() == "what a kill left"


def test_a_ledger_behind_its_checkpoints_is_refused_with_a_remedy(root):
    folder = save(root, 10, 20, 30)
    before = files(root)
    folder.check_ledger(last_step=30)
    with pytest.raises(UserError, match=r"ends at step 10, before step_20 … step_30; .*"):
        folder.resume_point(last_step=10)
    with pytest.raises(UserError, match=r"step_10 … step_30; .* --accept-older-ledger"):
        folder.resume_point(last_step=0)
    assert files(root) == before


def test_older_checkpoints_lose_their_state_then_everything(root):
    folder = save(root, 1, 2, 3)
    folder.retire(keep_states=1, keep_exports=2)
    assert listed(root) == [(3, True), (2, False)]
    assert sorted(os.listdir(root)) == ["step_2", "step_3"]
    folder.retire(keep_states=1, keep_exports=None)
    assert listed(root) == [(3, True), (2, False)]


@pytest.mark.parametrize("calls", range(1, 9))
def test_a_kill_while_checkpoints_are_retired_leaves_whole_ones_and_no_remains(
    root, monkeypatch, calls
):
    """Killed at any of its file operations, then started again."""
    folder = save(root, 1, 2, 3)
    left = [calls]

    def counted(operation):
        def call(*arguments, **named):
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
            return operation(*arguments, **named)

        return call

    for name in ("rename", "sync"):
        monkeypatch.setattr(durable, name, counted(getattr(durable, name)))
    monkeypatch.setattr(durable.shutil, "rmtree", counted(durable.shutil.rmtree))
    with pytest.raises(KeyboardInterrupt):
        folder.retire(keep_states=1, keep_exports=2)
    monkeypatch.undo()
    for checkpoint in existing(root):
        if checkpoint.resumable:
            checkpoint.verify()
    again = CheckpointFolder(root)
    again.sweep()
    assert again.resume_point(last_step=3).step == 3
    again.retire(keep_states=1, keep_exports=2)
    assert sorted(os.listdir(root)) == ["step_2", "step_3"]
    assert listed(root) == [(3, True), (2, False)]


def test_a_sweep_removes_what_a_killed_learner_was_writing_and_keeps_what_was_set_aside(root):
    folder = save(root, 1, 2)
    folder.set_aside(root / "step_2")
    (folder.staging(3, 1) / "state").mkdir(parents=True)
    folder.sweep()
    assert sorted(os.listdir(root)) == [".superseded", "step_1"]
