"""The figures: what is counted, what each is called, by what it is divided, and how long it is kept."""

from pipeline.telemetry.figures import (
    BACKGROUND,
    CLASSED,
    COUNTERS,
    FIGURES,
    GAUGES,
    LOST_LINES,
    REMOVED,
    UNREACHED,
    Figure,
)
from pipeline.telemetry.series import STEPS
from pipeline.telemetry.telemetry import DIMENSIONS, RANGES, Dimension, DomainErrors, Range, Telemetry

__all__ = [
    "BACKGROUND",
    "CLASSED",
    "COUNTERS",
    "DIMENSIONS",
    "FIGURES",
    "GAUGES",
    "LOST_LINES",
    "RANGES",
    "REMOVED",
    "STEPS",
    "UNREACHED",
    "Dimension",
    "DomainErrors",
    "Figure",
    "Range",
    "Telemetry",
]
