"""blocks: HTML and a text version of `mime.content.blocks`, as tables that every mail program lays out alike.

What comes from the message is escaped, but for the HTML of html blocks; of CSS only names and plain values are taken.
An unknown block fails the message with its name. Bounds: DEPTH of blocks in blocks, MOST of them.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from operators.mail.links import rewritten
from operators.mail.unmade import Unmade

DEPTH = 10
MOST = 1000
WIDTH = 580  # pixels of the middle column
SCHEMES = ("http", "https", "mailto", "tel", "")
SOCIAL = ("facebook", "twitter", "x", "linkedin", "instagram", "youtube", "pinterest", "google", "googleplus", "xing",
          "mastodon", "bluesky", "whatsapp", "tiktok", "email")  # fmt: skip

_VALUE = re.compile(r"[A-Za-z0-9#%.,()'\" !_+-]{1,200}").fullmatch
_PROPERTY = re.compile(r"[a-z-]{1,40}").fullmatch
_YOUTUBE = re.compile(r"https?://(?:www\.youtube\.com/(?:watch\?v=|embed/)|youtu\.be/)([\w-]{5,20})").match
_SHARERS = {
    "facebook": "https://www.facebook.com/sharer/sharer.php?u={url}",
    "twitter": "https://twitter.com/intent/tweet?url={url}&text={title}",
    "x": "https://twitter.com/intent/tweet?url={url}&text={title}",
    "linkedin": "https://www.linkedin.com/sharing/share-offsite/?url={url}",
    "pinterest": "https://pinterest.com/pin/create/button/?url={url}&description={title}",
    "reddit": "https://www.reddit.com/submit?url={url}&title={title}",
    "tumblr": "https://www.tumblr.com/share/link?url={url}&name={title}",
    "xing": "https://www.xing.com/spi/shares/new?url={url}",
    "whatsapp": "https://wa.me/?text={url}",
    "telegram": "https://t.me/share/url?url={url}&text={title}",
    "email": "mailto:?subject={title}&body={url}",
}
_PAGES = {"linkedin": "www.linkedin.com/in/", "youtube": "www.youtube.com/@", "googleplus": "plus.google.com/+"}
_TAGS = re.compile(r"<br\s*/?>|</(?:p|div|h[1-6]|li|tr)>", re.IGNORECASE)
_TAG = re.compile(r"<(?:style|script)\b.*?</(?:style|script)>|<[^>]*>", re.IGNORECASE | re.DOTALL)
_GAPS = re.compile(r"\n{3,}")

Block = Mapping[str, Any]
Made = tuple[str, str]  # HTML, text


def document(content: Mapping[str, Any], mime: Mapping[str, Any]) -> Made:
    """(the HTML version, the text version) of a mail's content.

    Args:
        content: with `blocks`.
        mime: the mail, whose subject is the title, and whose background and font are those of the page.

    Raises:
        Unmade: a block is unknown, or cannot be used; says which.
    """
    page = _Page()
    inner, text = page.blocks(content.get("blocks", []), "mime.content.blocks", 0)
    inner += _pixel(_in(mime, "tracking"))
    title = html.escape(str(mime.get("subject") or ""))
    style = _style(
        {"font-family": "Arial, Helvetica, sans-serif", "font-size": "15px", **_font(mime), **_font(content)}
    )
    body = _style({"margin": "0", "padding": "0", **_ground(mime), **_css(mime)})
    middle = _style({"max-width": f"{WIDTH}px", "margin": "0 auto", **_ground(content)})
    whole = (
        '<!DOCTYPE html>\n<html><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{title}</title></head>\n<body{body}>"
        f'<table role="presentation" width="100%" cellpadding="0" cellspacing="0"{style}><tr><td align="center">\n'
        f'<table role="presentation" width="100%" cellpadding="0" cellspacing="0"{middle}>\n{inner}</table>\n'
        "</td></tr></table></body></html>\n"
    )
    return whole, _GAPS.sub("\n\n", text).strip() + "\n"


def _pixel(tracking: Mapping[str, Any]) -> str:
    """The row of a tracking pixel."""
    if not (pixel := tracking.get("pixel")):
        return ""
    address = html.escape(_address(str(pixel), "mime.tracking.pixel"))
    return f'<tr><td><img src="{address}" width="1" height="1" alt="" border="0"></td></tr>\n'


class _Page:
    def __init__(self) -> None:
        self._count = 0

    def blocks(self, given: Any, where: str, depth: int) -> Made:
        """Blocks below each other, each a row."""
        if isinstance(given, Mapping):
            given = [given]
        if not isinstance(given, list):
            raise _wrong(where, "must be a list of blocks")
        if depth > DEPTH:
            raise _wrong(where, f"is nested more than {DEPTH} deep")
        rows, texts = [], []
        for index, block in enumerate(given):
            self._count += 1
            if self._count > MOST:
                raise _wrong(where, f"has more than {MOST} blocks")
            row, text = self._block(block, f"{where}[{index}]", depth)
            rows.append(row)
            texts.append(text)
        return "".join(rows), "\n\n".join(text for text in texts if text)

    def _block(self, block: Any, where: str, depth: int) -> Made:
        if not isinstance(block, Mapping):
            raise _wrong(where, "must be an object with a type")
        if _in(block, "visibility").get("output") == "webonly":
            return "", ""
        kind = str(block.get("type") or "").lower()
        if kind in ("columns", "grid"):
            inner, text = self._columns(block, where, depth)
        elif kind == "container":
            inner, text = self.blocks(block.get("blocks", []), f"{where}.blocks", depth + 1)
            inner = f'<table role="presentation" width="100%" cellpadding="0" cellspacing="0">{inner}</table>'
        elif (make := KINDS.get(kind)) is not None:
            inner, text = make(block, where)
        else:
            known = ", ".join([*KINDS, "columns", "container"])
            raise _wrong(where, f"there is no block of type {kind[:60]!r}; there are {known}")
        if block.get("rewrite") is not None:
            inner = rewritten(inner, block["rewrite"], f"{where}.rewrite")
        cell = {"padding": _space(block.get("margin"), "10px 15px"), **_font(block), **_css(_in(block, "container"))}
        align = f' align="{block["align"]}"' if block.get("align") in ("left", "center", "right") else ""
        own = _style({**_ground(block), "padding": _space(block.get("padding"), ""), **_css(block)})
        return f"<tr><td{align}{_style(cell)}><div{own}>{inner}</div></td></tr>\n", text

    def _columns(self, block: Block, where: str, depth: int) -> Made:
        """Beside each other; on a narrow screen below."""
        columns = block.get("columns", block.get("blocks", []))
        if not isinstance(columns, list) or not 0 < len(columns) <= 12:
            raise _wrong(f"{where}.columns", "must be a list of 1 to 12 columns")
        sizes = [_whole(_of(column, "size"), 0) or 12 // len(columns) for column in columns]
        cells, texts = [], []
        for column, size in zip(columns, sizes, strict=True):
            inner, text = self.blocks(_of(column, "blocks") or [], f"{where}.columns", depth + 1)
            width = round(100 * size / max(12, sum(sizes)))
            cells.append(
                f'<td width="{width}%" valign="top"{_style(_ground(column))}><table role="presentation" width="100%" '
                f'cellpadding="0" cellspacing="0">{inner}</table></td>'
            )
            texts.append(text)
        table = '<table role="presentation" width="100%" cellpadding="0" cellspacing="0">'
        return f"{table}<tr>{''.join(cells)}</tr></table>", "\n\n".join(text for text in texts if text)


# -- the kinds ---------------------------------------------------------------------------------------------------------


def _html(block: Block, where: str) -> Made:
    source = _string(block, ("content", "source", "html"), where)
    return source, plain(source)


def _text(block: Block, where: str) -> Made:
    source = _string(block, ("content", "source", "text"), where)
    shown = html.escape(source).replace("\r\n", "\n").replace("\n", "<br>\n")
    return _linked(block, shown, where), source


def _heading(block: Block, where: str) -> Made:
    source, size = _string(block, ("content", "label"), where), min(6, max(1, _whole(block.get("size"), 1)))
    return f"<h{size}>{_linked(block, html.escape(source), where)}</h{size}>", source


def _image(block: Block, where: str) -> Made:
    address = _address(_string(block, ("src", "url"), where), f"{where}.src")
    alt = str(block.get("alt") or "")
    width = f' width="{size}"' if (size := _whole(block.get("width"), 0)) else ""
    image = (
        f'<img src="{html.escape(address)}" alt="{html.escape(alt)}"{width} border="0" '
        'style="max-width: 100%; height: auto; display: block;">'
    )
    return _linked(block, image, where), alt


def _button(block: Block, where: str) -> Made:
    label, address = _string(block, ("label", "content", "text"), where), _target(block, where)
    corners = {"round": "8px", "rounded": "8px"}.get(str(block.get("corners")), "0")
    colour = _colour(block.get("color")) or "#2a6edb"
    style = _style({
        "background-color": colour, "color": _font(block).get("color", "#ffffff"), "display": "inline-block",
        "padding": f"{max(6, _whole(block.get('size'), 10))}px 24px", "text-decoration": "none",
        "border-radius": corners,
    })  # fmt: skip
    shown = html.escape(label)
    made = f'<a href="{html.escape(address)}"{style}>{shown}</a>' if address else f"<span{style}>{shown}</span>"
    return made, f"{label}: {address}" if address else label


def _link(block: Block, where: str) -> Made:
    address = _target(block, where) or _address(_string(block, ("url", "href"), where), where)
    label = str(block.get("label") or block.get("content") or block.get("text") or address)
    return f'<a href="{html.escape(address)}">{html.escape(label)}</a>', f"{label}: {address}"


def _line(block: Block, where: str) -> Made:
    colour = _colour(block.get("color")) or "#cccccc"
    return f'<hr style="border: 0; border-top: 1px solid {colour}; margin: 0;">', "-" * 40


def _spacer(block: Block, where: str) -> Made:
    height = min(500, max(0, _whole(block.get("size", block.get("height")), 20)))
    return f'<div style="height: {height}px; line-height: {height}px;">&nbsp;</div>', ""


def _video(block: Block, where: str) -> Made:
    """A link to a video; with a picture of it, where its site has one at a known address."""
    address = _address(_string(block, ("url", "source", "src"), where), f"{where}.url")
    target = html.escape(_target(block, where) or address)
    if (found := _YOUTUBE(address)) is None:
        return f'<a href="{target}">{html.escape(address)}</a>', address
    picture = f"https://img.youtube.com/vi/{found[1]}/hqdefault.jpg"
    image = f'<img src="{picture}" alt="" border="0" style="max-width: 100%; height: auto; display: block;">'
    return f'<a href="{target}">{image}</a>', address


def _share(block: Block, where: str) -> Made:
    """Links under which networks let people share the block's `link`."""
    names, url = block.get("platforms"), _target({**block, "type": "link"}, where)
    if not isinstance(names, list) or not url:
        return _social(block, where)
    title = str(_of(block.get("link"), "title") or block.get("description") or "")
    links = {
        str(name): _SHARERS[str(name)].format(url=quote(url, safe=""), title=quote(title, safe=""))
        for name in names
        if str(name) in _SHARERS
    }
    if not links:
        raise _wrong(f"{where}.platforms", f"none of them is known; there are {', '.join(_SHARERS)}")
    return _labelled(block, _social({"networks": links}, where))


def _labelled(block: Block, made: Made) -> Made:
    label = str(block.get("label") or "")
    return (f"{html.escape(label)}<br>{made[0]}", f"{label}\n{made[1]}") if label else made


def _social(block: Block, where: str) -> Made:
    """Links to networks: `{"facebook": "https://..."}`, or a list of objects with `type` or `label`, and `url`."""
    given = next((block[one] for one in ("platforms", "networks", "links", "items", "icons") if one in block), None)
    if isinstance(given, Mapping):
        return _labelled(
            block, _networks({name: _profile(str(name), one) for name, one in given.items()}, block, where)
        )
    return _labelled(block, _networks(given, block, where))


def _profile(network: str, value: Any) -> Any:
    """The address of somebody's page, of its address or of their name there."""
    page = _of(value, "url") or _of(value, "identifier") or _of(value, "username") or value
    if isinstance(page, str) and "/" not in page and ":" not in page:
        return f"https://{_PAGES.get(network, network + '.com/')}{quote(page, safe='')}"
    return page


def _networks(given: Any, block: Block, where: str) -> Made:
    if given is None:
        given = {name: block[name] for name in block if name in SOCIAL}
    if isinstance(given, Mapping):
        given = [{"label": name, "url": one} for name, one in given.items()]
    if not isinstance(given, list) or not given:
        raise _wrong(where, "needs networks: an object of names and addresses")
    links = []
    for index, one in enumerate(given):
        url = _of(one, "url") or _of(one, "link")
        label = next((found for name in ("label", "type", "network", "icon", "name") if (found := _of(one, name))), url)
        links.append((str(label).capitalize(), _address(str(url or ""), f"{where}[{index}].url")))
    shown = " &middot; ".join(f'<a href="{html.escape(url)}">{html.escape(label)}</a>' for label, url in links)
    return shown, "\n".join(f"{label}: {url}" for label, url in links)


KINDS: dict[str, Callable[[Block, str], Made]] = {
    "text": _text, "html": _html, "heading": _heading, "image": _image, "button": _button, "link": _link,
    "line": _line, "separator": _line, "seperator": _line, "spacer": _spacer,
    "social": _social, "follow": _social, "share": _share, "video": _video,
}  # fmt: skip


# -- pieces ------------------------------------------------------------------------------------------------------------


def plain(source: str) -> str:
    """HTML as text: without tags, with its line ends."""
    return html.unescape(_TAG.sub("", _TAGS.sub("\n", source))).strip()


def _wrong(where: str, why: str) -> Unmade:
    return Unmade("responsive", f"{where}: {why}")


def _of(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else None


def _in(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = value.get(name)
    return found if isinstance(found, Mapping) else {}


def _string(block: Block, names: Sequence[str], where: str) -> str:
    for name in names:
        if isinstance(value := block.get(name), str | int | float) and not isinstance(value, bool):
            return str(value)
    raise _wrong(f"{where}.{names[0]}", "is missing, and must be a text")


def _whole(value: Any, otherwise: int) -> int:
    digits = re.match(r"\s*(\d{1,5})", str(value)) if not isinstance(value, bool) else None
    return int(digits[1]) if digits else otherwise


def _target(block: Block, where: str) -> str:
    """The address of a block's `link`, with its `params`; "" where there is none."""
    link = block.get("link", block.get("url") if block.get("type") in ("button", "link") else None)
    url = link if isinstance(link, str) else _of(link, "url")
    if not url:
        return ""
    address = _address(str(url), f"{where}.link.url")
    params = _of(link, "params")
    if not isinstance(params, Mapping) or not params:
        return address
    parts = urlsplit(address)
    query = dict(parse_qsl(parts.query, keep_blank_values=True)) | {str(name): str(one) for name, one in params.items()}
    return urlunsplit(parts._replace(query=urlencode(query)))


def _address(text: str, where: str) -> str:
    """An address to link to; nothing that a mail program would run."""
    try:
        scheme = urlsplit(text.strip()).scheme.lower()
    except ValueError:
        scheme = "?"
    if not text.strip() or scheme not in SCHEMES or re.search(r"[\x00-\x20]", text.strip()):
        raise _wrong(where, f"{text[:60]!r} is no address to link to; allowed are http, https, mailto and tel")
    return text.strip()


def _linked(block: Block, inner: str, where: str) -> str:
    address = _target(block, where)
    return f'<a href="{html.escape(address)}">{inner}</a>' if address else inner


def _colour(value: Any) -> str:
    return value if isinstance(value, str) and _VALUE(value) else ""


def _ground(value: Any) -> dict[str, str]:
    ground = _of(value, "background")
    colour = _colour(ground if isinstance(ground, str) else _of(ground, "color"))
    return {"background-color": colour} if colour else {}


def _font(value: Mapping[str, Any]) -> dict[str, str]:
    font, found = _in(value, "font"), {}
    for name, css in (("family", "font-family"), ("size", "font-size"), ("color", "color"), ("weight", "font-weight")):
        text = str(font.get(name) or "")
        if text and _VALUE(text):
            found[css] = f"{text}px" if name == "size" and text.isdigit() else text
    return found


def _css(value: Mapping[str, Any]) -> dict[str, str]:
    return {str(name): str(one) for name, one in _in(value, "css").items() if _PROPERTY(str(name)) and _VALUE(str(one))}


def _space(value: Any, otherwise: str) -> str:
    """A margin: a number, or an object of top, right, bottom, left."""
    if isinstance(value, Mapping):
        return " ".join(f"{_whole(value.get(side), 0)}px" for side in ("top", "right", "bottom", "left"))
    return f"{_whole(value, 0)}px" if value is not None else otherwise


def _style(values: Mapping[str, str]) -> str:
    text = "; ".join(f"{name}: {value}" for name, value in values.items() if value)
    return f' style="{html.escape(text)}"' if text else ""
