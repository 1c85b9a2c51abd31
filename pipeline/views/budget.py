"""The console's share of the process's descriptors."""

from pipeline.process.budget import console

__all__ = ["console"]
