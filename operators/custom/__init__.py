"""What a custom operator imports (here), what it is given (`live`), and the guard around it (`guard`).

A custom operator needs this one import line. These names stay where they are when the modules behind them move:

    from operators.custom import Delivery, Live, failed
"""

from operators.custom.live import Function, Live
from operators.deliveries.delivery import Delivery, lane_name
from operators.deliveries.outcome import Next, Outcome, deferred, failed, postponed
from operators.mail.headers import change

__all__ = [
    "Delivery",
    "Function",
    "Live",
    "Next",
    "Outcome",
    "change",
    "deferred",
    "failed",
    "lane_name",
    "postponed",
]
