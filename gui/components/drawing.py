"""Drawing: plain HTML elements, and line drawings on a 20 by 20 grid."""

from __future__ import annotations

from nicegui.element import Element
from nicegui.elements.mixins.text_element import TextElement

BARS = "M3 16.5V9M8 16.5V4M13 16.5v-6M17.5 16.5v-9"
MENU = "M3 5.5h14M3 10h14M3 14.5h14"
MOON = "M10 3a7 7 0 1 0 7 7 5.5 5.5 0 0 1-7-7z"
QUESTION = "M10 2.5a7.5 7.5 0 1 1 0 15 7.5 7.5 0 0 1 0-15zM7.6 7.8a2.5 2.5 0 1 1 3.6 2.2c-.8.4-1.2.9-1.2 1.8M10 14.3v.2"
LEAVE = "M12.5 6V4H4v12h8.500v-2M8 10h9.500M14.5 7l3 3-3 3"


def tag(name: str, classes: str = "") -> Element:
    """An HTML element."""
    return Element(name).classes(classes)


def text(name: str, content: str, classes: str = "") -> Element:
    """An HTML element with a text, which is shown as it is."""
    return TextElement(tag=name, text=content).classes(classes)


def icon(path: str) -> Element:
    """A line drawing from an SVG path on a 20 by 20 grid."""
    with tag("svg", "icon").props('viewBox="0 0 20 20" aria-hidden=true') as drawing:
        tag("path").props(f'd="{path}"')
    return drawing


def icon_button(does: str, label: str, path: str) -> Element:
    """A button with a drawing; what it does is in `console.js`."""
    with tag("button", "icon-button").props(
        f'type=button data-do={does} aria-label="{label}" title="{label}"'
    ) as button:
        icon(path)
    return button
