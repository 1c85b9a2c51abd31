"""The demo: a simulated internet on loopback, and people who send mail to it."""

from pipeline.demo.demo import Demo, start

__all__ = ["Demo", "start"]
