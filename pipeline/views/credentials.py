"""Who may log in, by a source outside: a file, a web server, a program; the same as for SMTP."""

from pipeline.smtp.server.access.auth import AuthUnavailable, Credentials, parse

__all__ = ["AuthUnavailable", "Credentials", "parse"]
