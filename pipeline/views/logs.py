"""The delivery log, as it is asked: filters, records, pages and counts."""

from pipeline.log.reading.filters import Filters, UnknownFilter
from pipeline.log.reading.query import COUNT_BY, MOST, Counts, Follower, LogPage, LogQueryFailed, Position
from pipeline.log.schema import Attempt, LogRecord, Reception

__all__ = [
    "COUNT_BY",
    "MOST",
    "Attempt",
    "Counts",
    "Filters",
    "Follower",
    "LogPage",
    "LogQueryFailed",
    "LogRecord",
    "Position",
    "Reception",
    "UnknownFilter",
]
