"""The counters: what is counted (`figures`), how long it is kept (`series`), and the projection of events."""
