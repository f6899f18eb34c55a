"""Sources of the settings: YAML file, environment variables, secret files."""
