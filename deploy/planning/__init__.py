"""Planning: what a run needs and how long it takes, before anything is started.

``architecture`` and ``workload`` say what is computed, ``devices`` on what,
``memory`` what it fills, ``roofline`` how long each piece takes, ``simulation``
(on ``events`` and ``slots``) who waits for whom, ``planner``, ``fitting`` and
``scaling`` what follows. Nothing here imports a runtime or touches weights.
"""
