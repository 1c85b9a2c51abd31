"""The configuration: keys, values, where they come from, and loading them. Read once, at start."""
