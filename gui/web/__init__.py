"""The web server: the console's start, its sockets, health and metrics."""
