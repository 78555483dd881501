import time

from common.rundir import RunDir
from deploy.cluster import process, ray_cluster
from deploy.cluster.ray_cluster import _head_address


def test_a_head_has_an_address_once_ray_has_written_it_and_not_before(tmp_path):
    log, file = tmp_path / "ray.log", tmp_path / "ray_current_cluster"
    log.write_text("Local node IP: 127.0.0.1\n")
    assert _head_address(tmp_path, log) == ""

    log.write_text("Ray runtime started.\n")
    assert _head_address(tmp_path, log) == ""

    file.touch()
    assert _head_address(tmp_path, log) == ""

    file.write_text("127.0.0.1:6379")
    assert _head_address(tmp_path, log) == "127.0.0.1:6379"


def test_a_head_whose_command_was_killed_before_it_noted_the_process_is_stopped(tmp_path):
    """The folder is noted first, and the head has it on its command line."""
    run, temp_dir = RunDir(tmp_path / "mine"), tmp_path / "mixsd-x"
    run.create()
    temp_dir.mkdir()
    ray_cluster._describe(run, temp_dir)
    command = ["sh", "-c", "sleep 60; :", f"--temp-dir={temp_dir}"]
    head = process.spawn(command, tmp_path / "log", {})
    deadline = time.monotonic() + 10
    while ray_cluster.head_pid(run) is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert ray_cluster.address(run) is None
    assert ray_cluster.head_pid(run) == head.pid
    assert ray_cluster.stop_local(run)
    assert head.wait(10) == -15
    assert not run.cluster.exists()
    assert not temp_dir.exists()


def test_a_folder_without_a_head_is_cleared(tmp_path):
    run, temp_dir = RunDir(tmp_path / "mine"), tmp_path / "mixsd-x"
    run.create()
    temp_dir.mkdir()
    ray_cluster._describe(run, temp_dir)
    assert not ray_cluster.stop_local(run)
    assert not run.cluster.exists()
    assert not temp_dir.exists()
