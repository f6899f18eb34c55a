"""The alerts of config/prometheus-rules.yaml: that they say what is so, that they fire, and that they keep quiet."""
