"""Parts that pages are made of. Each shows what it is given, as text, and knows nothing of the machine."""
