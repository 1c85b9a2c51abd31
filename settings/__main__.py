"""`python -m settings` prints the reference of all keys."""

from settings.config.table import reference

print(reference())
