"""Planning: what a run needs and how long it takes, before anything is started.

``architecture`` and ``workload`` describe what is computed, ``devices`` the hardware.
``memory`` gives the bytes of each role, ``roofline`` the seconds of each piece of work.
``simulation`` (on ``events`` and ``slots``) adds the waiting between roles. ``planner``,
``fitting`` and ``scaling`` use them all. Nothing here imports a runtime or reads weights.
"""
