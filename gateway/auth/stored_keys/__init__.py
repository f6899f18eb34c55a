"""Keys of clients that are created while the gateway runs: their terms, and a copy of them in each process."""
