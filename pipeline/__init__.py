"""The running program: what does I/O, and the assembly of the stages."""
