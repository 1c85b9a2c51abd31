"""What pages and the API may know of answers: their classes, and those without one."""

from operators.deciding.classes import class_of
from pipeline.machine.effects import UnknownAnswer
from settings.rules import Snapshot
from settings.rules.decisions import CLASSES

__all__ = ["CLASSES", "UnknownAnswer", "classify"]


def classify(snapshot: Snapshot, text: str) -> tuple[str, bool]:
    """The class of an answer, and whether a pattern of the operator's gave it."""
    own = snapshot.own_class(text)
    return (own.meaning, True) if own is not None else (class_of(text), False)
