"""The cluster: what the instances tell each other over an exchange, and what each makes of it."""
