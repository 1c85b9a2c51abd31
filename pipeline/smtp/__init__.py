"""SMTP, both ways: `server` takes mail in, `client` delivers it, `watch` shows what both say."""
