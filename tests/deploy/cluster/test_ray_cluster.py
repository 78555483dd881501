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
