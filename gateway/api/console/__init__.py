"""Pages of the console on the operations port."""
