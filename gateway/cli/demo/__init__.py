"""`runward demo`: the gateway and both emulated providers in one process."""
