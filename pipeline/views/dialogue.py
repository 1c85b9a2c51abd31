"""The SMTP dialogues, as the SMTP monitor watches them."""

from pipeline.smtp.watch import Line, Only, SkippedLines

__all__ = ["Line", "Only", "SkippedLines"]
