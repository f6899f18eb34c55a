"""Who may do how much: gateway keys, what a client may run, and the limits of clients, workflows and providers."""
