"""The outgoing SMTP client: connects (`connect`), keeps the connections, and sends messages over them."""

from pipeline.smtp.client.transport import Transport

__all__ = ["Transport"]
