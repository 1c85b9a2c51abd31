"""What a custom operator is given (`live`), and the guard around it (`guard`)."""
