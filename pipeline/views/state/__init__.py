"""How things stand: of a destination, of what is paused, of a combination. Read only, and no I/O."""
