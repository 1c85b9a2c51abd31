"""`python -m settings` prints the reference of all keys."""

from settings.table import reference

print(reference())
