"""Text from outside, made fit to be shown: in a terminal, a page, a header, a spreadsheet."""

from operators.mail.head import shown
from pipeline.log.text import no_formula, visible

__all__ = ["no_formula", "shown", "visible"]
