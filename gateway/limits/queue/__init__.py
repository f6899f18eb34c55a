"""Fair queues in which requests wait for a limit."""
