"""Training of the student: packing, losses, schedules, DeepSpeed, checkpoints."""
