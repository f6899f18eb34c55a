"""Tests of the alerts in config/prometheus-rules.yaml: valid texts, firing, and no false alarms."""
