"""AMQP: the connection, its channels and frames, and messages as AMQP carries them."""
