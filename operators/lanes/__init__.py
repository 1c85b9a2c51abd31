"""The lanes: where deliveries wait for a permit (rate) and a slot (connection), and what slows a lane down."""
