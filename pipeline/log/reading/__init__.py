"""Reading the delivery log: filters, queries on DuckDB, the end of a growing file, text for terminals."""
