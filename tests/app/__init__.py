"""A running gateway gets another configuration: real processes, real files, real signals."""
