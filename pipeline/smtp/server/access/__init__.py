"""Who may connect, how many at once, and who has logged in."""
