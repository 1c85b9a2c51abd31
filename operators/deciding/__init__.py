"""The stages in which the operator's rules decide on a message: ended, suppressed, rewritten, answered, classed."""
