"""The commands besides `serve`: send, queue, logs. They work without the server."""
