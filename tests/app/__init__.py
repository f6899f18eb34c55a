"""Tests of startup and hot reload: processes, configuration files and signals."""
