"""The student's weights on their way from the learner to the rollout engines.

The learner calls ``publish`` after a step; a rollout actor calls ``is_behind`` before
new work and ``load`` once no request runs. Three transports (``publish.transport``):

memory     ``file_publisher`` writes a version to ``store``, ``file_receiver`` loads it.
nccl, ipc  ``transfer_publisher`` drives vLLM's trainer, which ``trainers`` opens for one or the
           other; ``transfer_receiver`` makes its calls.
"""
