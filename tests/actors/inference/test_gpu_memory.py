"""An engine starts when its share of the GPU's memory is free."""

from actors.inference.gpu_memory import wait_until_free

GIB = 2**30


class Gpu:
    """80 GiB, of which some become free every second."""

    def __init__(self, free, a_second=0):
        self.free, self.a_second, self.seconds = free, a_second, 0.0

    def memory(self):
        return int((self.free + self.a_second * self.seconds) * GIB), 80 * GIB

    def sleep(self, seconds):
        self.seconds += seconds

    def wait(self, share):
        return wait_until_free(share, self.memory, lambda: self.seconds, self.sleep)


def test_memory_that_is_free_is_not_waited_for():
    gpu = Gpu(free=40)
    assert gpu.wait(0.5)
    assert gpu.seconds == 0


def test_the_memory_of_a_killed_process_is_waited_for(caplog):
    gpu = Gpu(free=8, a_second=16)
    # 72 of 80 GiB after four seconds.
    assert gpu.wait(0.9)
    assert gpu.seconds == 4
    assert "8.0 GiB are free, the engine's share is 72.0 of 80.0" in caplog.text


def test_memory_that_others_keep_is_left_to_vllm_to_complain_about():
    gpu = Gpu(free=8)
    assert not gpu.wait(0.9)
    assert gpu.seconds == 60
