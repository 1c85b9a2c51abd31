"""header_by_tag: a worked example. Messages with certain tags get a header field more.

    mailrace serve --operators operators.examples.header_by_tag:header_by_tag@compose

Runs after compose, where the bytes to send are made, and before sign, so that the signature covers the field. Changes
`source` at its front only. Keeps nothing.
"""

from __future__ import annotations

from reactivex import Observable

from operators.custom import Delivery, Live, change

FIELDS = {  # tag -> field
    "newsletter": ("Precedence", "bulk"),
    "alert": ("Importance", "high"),
}


def header_by_tag(source: Observable[Delivery], live: Live) -> Observable[Delivery]:
    """Each of the message's `tags` that is in FIELDS puts its field in front of the message."""

    def step(delivery: Delivery) -> Delivery:
        fields = dict(FIELDS[tag] for tag in delivery.message.tags if tag in FIELDS)
        return delivery.but(source=change(delivery.source, {"prepend": fields})) if fields else delivery

    return source.pipe(live.stage(step))
