"""Training: the loop around a compiled step, with schedules, metrics, stopping rules, checkpoints and the log."""
