"""Several gateways on one port: worker processes, and the one process that starts, watches and ends them."""
