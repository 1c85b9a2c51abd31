"""Alerts: what of the alert rules holds (`states`), and how notices of it come to people (`outgoing`, `hooks`)."""
