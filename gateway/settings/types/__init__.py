"""Field types of the settings: addresses, units, secrets, names."""
