"""The vocabulary of a delivery: route, outcome, reply, result, retry, settlement, event. Pure functions and values."""
