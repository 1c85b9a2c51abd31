"""skeleton: the least that a custom operator needs; copy it and write `step`. As it is, it hands everything on.

mailrace serve --operators operators.examples.skeleton:skeleton@expire
"""

from __future__ import annotations

from reactivex import Observable

from operators.custom import Delivery, Live


def skeleton(source: Observable[Delivery], live: Live) -> Observable[Delivery]:
    """When it runs, what it changes, what it keeps, and what bounds that."""

    def step(delivery: Delivery) -> Delivery:
        return delivery

    return source.pipe(live.stage(step))
