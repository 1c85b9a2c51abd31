"""The machine: assembles the chain of stages, and owns the life of every part."""
