"""The vocabulary of a message: envelope, header, body, signature, notification. Pure functions and values."""
