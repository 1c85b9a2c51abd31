"""Parts that pause and resume: the Running button, and the bar that says what is paused."""
