"""Writing the delivery log: a buffer in shared memory, a writer process, rotation, conversion to Parquet."""
