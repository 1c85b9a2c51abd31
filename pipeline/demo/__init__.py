"""The demo: a simulated internet on loopback, and people who send mail to it."""
