"""The commands: `serve` starts machine and console; send, queue and logs work without the server."""
