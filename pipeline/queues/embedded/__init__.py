"""The embedded queue: one SQLite file in `data-dir`."""
