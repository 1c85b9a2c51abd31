"""The web server: the console's application, its sockets, health and metrics."""
