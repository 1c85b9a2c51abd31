"""Mail of this machine: the spool directory, and the message that `mailrace send` is given."""
