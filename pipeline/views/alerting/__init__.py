"""Alerts as they are shown: what the alert rules see of the running program, and what of it is told to whom."""
