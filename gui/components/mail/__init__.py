"""Parts of the pages on mail: lanes, messages, log records."""
