"""The budget of descriptors: no part takes those of another."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.process.budget import CONSOLE, LEAST, OWN, enough_addresses, shares
from settings import StartError
from tests.support.program import ROOT


def test_what_fits_is_given() -> None:
    """K13: nobody gets less than was configured where there is enough."""
    given_ = shares(1000, 500, CONSOLE, limit=10_000)
    assert (given_.delivery, given_.intake, given_.console) == (1000, 500, CONSOLE)


@given(st.integers(1, 65535), st.integers(0, 65535), st.sampled_from([0, CONSOLE]), st.integers(0, 100_000))
def test_shares_never_exceed_the_limit(delivery: int, intake: int, console: int, limit: int) -> None:
    """K13: whatever was configured, and each has at least some; or the program does not start."""
    try:
        found = shares(delivery, intake, console, limit)
    except StartError:
        assert limit < OWN + min(LEAST, delivery) + min(LEAST, intake) + min(LEAST, console)
        return
    assert OWN + found.delivery + found.intake + found.console <= limit
    for wanted, got in ((delivery, found.delivery), (intake, found.intake), (console, found.console)):
        assert min(LEAST, wanted) <= got <= wanted


CLAIM = (
    "import resource; from pipeline.process.budget import claim; from settings import load;"
    "settings, line = claim(load(['--data-dir=unused'], {}, None));"
    "print(settings.max_connections, resource.getrlimit(resource.RLIMIT_NOFILE)[0], bool(line))"
)


@pytest.mark.slow
@pytest.mark.parametrize(("soft", "hard"), [(256, 100_000), (1024, 1024)])
def test_the_limit_is_raised_at_the_start_or_the_shares_shrink(soft: int, hard: int) -> None:
    """K13: a shell's 1,024 is not taken for what the machine can do; where it is so, one line says what was cut."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, min(hard, resource.getrlimit(resource.RLIMIT_NOFILE)[1])))

    # A user who is not root cannot raise the hard limit: the program drops that right in this test.
    drop = "import ctypes; ctypes.CDLL(None).prctl(24, 24);"  # PR_CAPBSET_DROP, CAP_SYS_RESOURCE
    unprivileged = f"{drop} import os; os.execv({sys.executable!r}, [{sys.executable!r}, '-c', {CLAIM!r}])"
    command = [sys.executable, "-c", unprivileged]
    done = subprocess.run(command, cwd=ROOT, preexec_fn=limit, capture_output=True, text=True, check=True)
    connections, now, tight = done.stdout.split()
    if hard == soft:
        assert int(connections) < 1000 and int(now) == soft and tight == "True"
    else:
        assert (connections, tight) == ("1000", "False") and int(now) > soft


def test_a_limit_that_is_too_low_is_one_line() -> None:
    """K13: nothing starts that could not deliver what it takes."""
    with pytest.raises(StartError, match="this process may have 256, and needs"):
        shares(1000, 1000, CONSOLE, limit=256)


@pytest.mark.parametrize("octets", [100_000_000, 999_999_999])
def test_too_few_addresses_are_said_before_a_library_ends_the_program(octets: int) -> None:
    """K13: under RLIMIT_AS an allocation that fails is an abort without a word."""
    with pytest.raises(StartError, match=rf"may reserve {octets // 10**6} MB of addresses.*ulimit -v"):
        enough_addresses(octets)


@pytest.mark.parametrize("octets", [resource.RLIM_INFINITY, 1_000_000_000])
def test_enough_addresses_are_no_matter(octets: int) -> None:
    """Nor is a bound that was never set."""
    enough_addresses(octets)
