from deploy.control.out_of_memory import OutOfMemory, count_kills

DEATH = "learner-0 died (unexpectedly.)"


def test_the_kernel_counts_the_processes_that_it_killed(tmp_path):
    (tmp_path / "vmstat").write_text("nr_free_pages 77\noom_kill_x 5\noom_kill 3\nunevictable 0\n")
    assert count_kills(tmp_path / "vmstat") == 3
    (tmp_path / "vmstat").write_text("nr_free_pages 77\n")
    assert count_kills(tmp_path / "vmstat") == 0
    assert count_kills(tmp_path / "none") == 0


def test_a_death_within_ten_seconds_of_a_kill_is_explained_by_it():
    kills = [7]
    memory = OutOfMemory(lambda: kills[0])
    memory.watch(100.0)
    assert memory.explain(DEATH, 100.0) == DEATH
    kills[0] = 8
    memory.watch(101.0)
    memory.watch(110.5)
    assert memory.explain(DEATH, 110.5) == (
        "learner-0 died (unexpectedly.); the head's machine was out of memory and killed a process"
    )
    assert memory.explain(DEATH, 111.5) == DEATH
