"""Sources: what lies elsewhere: MIME in a message store (`key`), attachments on web servers (`url`)."""
