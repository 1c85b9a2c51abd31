"""Alembic's migrations of the rules database. The program runs them when it starts; nothing else needs to.

A change of `settings.store.tables` comes with a new file in `versions`; a test compares both on every database.
"""
