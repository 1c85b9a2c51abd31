"""Messages: the JSON object, and how one is read."""

from operators.mail.message import Message, Unreadable, decode_object, from_properties

__all__ = ["Message", "Unreadable", "decode_object", "from_properties"]
