"""What the routes of the API are made with."""

from __future__ import annotations

import msgspec
from fastapi import Request

from gui.api.bodies import Bodies
from gui.api.idempotency import Idempotency
from gui.api.schema import Schemas
from pipeline.views.facade import Facade
from settings.store import Who


class Context(msgspec.Struct, frozen=True):
    """The running machine, the reader of bodies, the schemas for the documentation, and the idempotency keys."""

    facade: Facade
    bodies: Bodies
    schemas: Schemas
    idempotency: Idempotency


def who(request: Request) -> Who:
    """Who asks, for the audit: the token's name, and the client's address."""
    return Who(request.state.holder, request.client.host if request.client else "")
