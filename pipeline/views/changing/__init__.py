"""What operators change, and what they see of it: the rules, the floods in force, the queued messages."""
