"""The SMTP server: sessions, mail transactions, who may send, and on to the queue."""
