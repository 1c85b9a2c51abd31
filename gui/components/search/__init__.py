"""The search over everything: what it finds, and where one types it."""
