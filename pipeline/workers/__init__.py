"""Workers: the processes that carry mail where there are several, and the head that they ask and tell."""
