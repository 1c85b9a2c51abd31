"""The events, and what they tell of: the delivery, and its outcome."""

from operators.deliveries.delivery import Delivery
from operators.deliveries.events import Event
from operators.deliveries.outcome import RESULTS, STATES, Outcome

__all__ = ["RESULTS", "STATES", "Delivery", "Event", "Outcome"]
