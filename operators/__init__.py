"""The operators: what happens to a message, stage by stage. Pure: no I/O, no clock of their own, no database."""
