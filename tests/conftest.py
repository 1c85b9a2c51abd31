"""What holds for all tests: Hypothesis draws the same examples each run, and its clock fails none of them.

`HYPOTHESIS_PROFILE=search pytest ...` draws others, many more.
"""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("same", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))
