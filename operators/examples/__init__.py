"""Custom operators to copy from: `skeleton`, and two that do something. How: operators/README.md."""
