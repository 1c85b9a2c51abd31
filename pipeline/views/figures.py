"""The figures: what is counted, what each is called, by what it is divided, and how long it is kept."""

from pipeline.telemetry.figures import (
    ALERTS,
    BACKGROUND,
    CLASSED,
    COUNTERS,
    DISCARDED,
    FIGURES,
    GAUGES,
    INSTANCES,
    LOST_LINES,
    NOTICES,
    REMOVED,
    STRAY,
    UNREACHED,
    WARMED,
    Figure,
)
from pipeline.telemetry.series import SLOTS, STEPS
from pipeline.telemetry.telemetry import DIMENSIONS, RANGES, Dimension, DomainErrors, Range, Telemetry

__all__ = [
    "ALERTS",
    "BACKGROUND",
    "CLASSED",
    "COUNTERS",
    "DIMENSIONS",
    "DISCARDED",
    "FIGURES",
    "GAUGES",
    "INSTANCES",
    "LOST_LINES",
    "NOTICES",
    "RANGES",
    "REMOVED",
    "SLOTS",
    "STEPS",
    "STRAY",
    "UNREACHED",
    "WARMED",
    "Dimension",
    "DomainErrors",
    "Figure",
    "Range",
    "Telemetry",
]
