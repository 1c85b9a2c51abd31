"""How things stand: of a lane, a destination, an MTA IP, of what is paused, of a combination. Read only, and no I/O."""
