"""The student's training: packing, losses, schedules, DeepSpeed, checkpoints."""
