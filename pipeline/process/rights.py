"""The rights of the log's processes: from their first line on those that the program has once its ports are open."""

from __future__ import annotations

import os

Account = tuple[int, int, list[int]]  # user, group, all groups, by their numbers


def drop(account: Account | None) -> None:
    """Become that, for good; None stays what this process is. Raises OSError."""
    if account is not None:
        user, group, groups = account
        os.setgroups(groups)
        os.setgid(group)
        os.setuid(user)
