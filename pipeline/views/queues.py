"""The queues, as they are seen: figures, messages in a list, what can be done to them, and what they answer."""

from pipeline.machine.withdrawing import Withdrawal
from pipeline.queues.census import Census
from pipeline.queues.contract import QueueFigures, QueueFull, QueueUnavailable, TooLarge
from pipeline.queues.listing import Action, Listed, Place, Unbrowsable
from pipeline.queues.survey import QueueRow
from pipeline.views.queue_monitor import Seen

__all__ = [
    "Action",
    "Census",
    "Listed",
    "Place",
    "QueueFigures",
    "QueueFull",
    "QueueRow",
    "QueueUnavailable",
    "Seen",
    "TooLarge",
    "Unbrowsable",
    "Withdrawal",
]
