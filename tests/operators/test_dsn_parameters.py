"""The values of the DSN parameters: written and read by one module (RFC 3461 4)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.mail.dsn_parameters import from_xtext, notify, ret, to_xtext


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1))
def test_what_is_written_as_xtext_is_read_again(text: str) -> None:
    """Printable ASCII, with `+`, `=` and spaces in it."""
    written = to_xtext(text)
    assert " " not in written
    assert "=" not in written
    assert from_xtext(written, len(written)) == text


@given(st.text(min_size=1))
def test_xtext_is_printable_whatever_is_written(text: str) -> None:
    """No line end gets into a command; and none is read out of one."""
    written = to_xtext(text)
    assert written.isascii()
    assert written.isprintable()
    if not (text.isascii() and text.isprintable()):
        with pytest.raises(ValueError, match="printable ASCII"):
            from_xtext(written, len(written))


@pytest.mark.parametrize("value", ["", "+", "+0g", "a b", "a=b", "é", "abcd"])
def test_what_is_no_xtext_or_too_long_is_refused(value: str) -> None:
    """With what is allowed."""
    with pytest.raises(ValueError, match="xtext of at most 3 characters"):
        from_xtext(value, 3)


def test_xtext_is_read_with_small_letters_and_written_with_capitals() -> None:
    """K6: RFC 3461 4 has capitals; what senders write instead means the same, and nothing else may be hidden in it."""
    assert from_xtext("b+2bx+3d", 100) == "b+x="
    assert to_xtext("b+x=") == "b+2Bx+3D"
    for hidden in ("+0d", "+0a", "+7f", "+c3+bc"):
        with pytest.raises(ValueError, match="not printable ASCII"):
            from_xtext(hidden, 100)


def test_notify_and_ret_are_read_in_any_case() -> None:
    """NEVER stands alone."""
    assert (notify("success, Delay"), notify("never"), ret("hdrs")) == ("SUCCESS,DELAY", "NEVER", "HDRS")
    for wrong in ("", "NEVER,DELAY", "SUCCESS,", "SOMETIMES"):
        with pytest.raises(ValueError, match="NEVER, or some of"):
            notify(wrong)
    with pytest.raises(ValueError, match="FULL or HDRS"):
        ret("ALL")
