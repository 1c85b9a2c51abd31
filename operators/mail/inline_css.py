"""inline_css: style sheets of HTML become style attributes, which every mail program understands (`inlinecss`).

Nothing is loaded: style sheets that are elsewhere stay where they are. Bound: LONGEST characters, and WORK: rules
times elements, each of which is tried on the other.
"""

from __future__ import annotations

import css_inline

from operators.mail import head
from operators.mail.parts import MimeLeaf, leaves
from operators.mail.unmade import Unmade

LONGEST = 2_000_000
WORK = 2_000_000

_inliner = css_inline.CSSInliner(load_remote_stylesheets=False, keep_style_tags=False, keep_at_rules=True)


def inlined(html: str) -> str:
    """The HTML with its style blocks in attributes; what attributes cannot have (`@media`) stays a block.

    Raises:
        Unmade: it is too large, or cannot be read.
    """
    if "<style" not in html.lower():
        return html
    if len(html) > LONGEST or html.count("{") * html.count("<") > WORK:
        raise Unmade("responsive", "inlinecss: has too many style rules for so large an HTML version")
    try:
        return _inliner.inline(html)
    except (css_inline.InlineError, ValueError) as error:
        raise Unmade("responsive", f"inlinecss: {' '.join(str(error).split())[:200]}") from None


def inlined_mail(source: bytes) -> bytes:
    """A mail with the style blocks of its HTML versions in attributes. Lines must end in CRLF. Raises `Unmade`."""
    return b"".join(piece if isinstance(piece, bytes) else _leaf(piece) for piece in leaves(source))


def _leaf(leaf: MimeLeaf) -> bytes:
    raw = leaf.fields + b"\r\n" + leaf.body
    if not leaf.is_text or leaf.kind != "text/html":
        return raw
    text = leaf.text()
    changed = inlined(text)
    if changed is text:
        return raw
    return leaf.replaced(changed) if not leaf.whole else _whole(leaf, changed)


def _whole(leaf: MimeLeaf, text: str) -> bytes:
    """A message that is HTML alone: its own fields first, as they were."""
    own = [one for one in head.split(leaf.fields)[0] if not head.name_of(one).startswith(b"content-")]
    kept = MimeLeaf(b"".join(one for one in head.split(leaf.fields)[0] if one not in own), leaf.body, whole=False)
    return b"".join(own) + kept.replaced(text)
