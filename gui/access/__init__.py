"""Who may do what: the password and its sessions, tokens, login, and the gate in front of every request."""
