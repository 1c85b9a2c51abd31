"""Custom operators to copy from: `skeleton`, and two that do something. docs/operators.md says how."""
