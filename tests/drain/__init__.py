"""A gateway is told to stop: nobody behind a balancer notices, and what can not be finished is not lost."""
