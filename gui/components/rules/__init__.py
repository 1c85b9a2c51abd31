"""Parts of the pages on rules: table, form, list."""
