"""Drawing: plain HTML elements, and line drawings on a 20 by 20 grid."""

from __future__ import annotations

from nicegui.element import Element
from nicegui.elements.mixins.text_element import TextElement

BARS = "M3 16.5V9M8 16.5V4M13 16.5v-6M17.5 16.5v-9"
KEYBOARD = "M2.500 5h15v10h-15zM5.500 8h.1M8.500 8h.1M11.500 8h.1M14.500 8h.1M6.500 12h7"
LENS = "M8.500 3a5.500 5.500 0 1 1 0 11 5.500 5.500 0 0 1 0-11zM12.500 12.500 17 17"
MENU = "M3 5.5h14M3 10h14M3 14.5h14"
MOON = "M10 3a7 7 0 1 0 7 7 5.5 5.5 0 0 1-7-7z"
QUESTION = "M10 2.5a7.5 7.5 0 1 1 0 15 7.5 7.5 0 0 1 0-15zM7.6 7.8a2.5 2.5 0 1 1 3.6 2.2c-.8.4-1.2.9-1.2 1.8M10 14.3v.2"
SERVER = "M3.5 3.5h13v5h-13zM3.5 11.5h13v5h-13zM6.5 6h.1M6.5 14h.1"
GLOBE = "M10 2.5a7.5 7.5 0 1 1 0 15 7.5 7.5 0 0 1 0-15zM2.5 10h15M10 2.5c5 4.5 5 10.5 0 15M10 2.5c-5 4.5-5 10.5 0 15"
STACK = "M10 3l7 3.5-7 3.5-7-3.5zM3 10l7 3.5 7-3.5M3 13.5l7 3.5 7-3.5"
LINES = "M5 2.5h7l3.5 3.5v11.5H5zM7.5 9h5M7.5 12h5M7.5 15h3"
DIALOG = "M3 4h14v9H9l-4 3.5V13H3zM6.5 7h7M6.5 10h4"
FLOW = "M3 6h5l4 8h5M14.5 11.5 17 14l-2.5 2.5M3 14h4M13 6h4M14.5 3.5 17 6l-2.5 2.5"
SLIDERS = "M3 6h7M14 6h3M3 14h3M10 14h7M12 4v4M8 12v4"
CLOCK = "M10 2.5a7.5 7.5 0 1 1 0 15 7.5 7.5 0 0 1 0-15zM10 6v4l3 2"
CLUSTER = "M7.500 3h5v4h-5zM2.500 13h5v4h-5zM12.500 13h5v4h-5zM10 7v3M5 13v-3h10v3"
LEAVE = "M12.5 6V4H4v12h8.500v-2M8 10h9.500M14.5 7l3 3-3 3"

# Of Quasar's fields, as filled paths on a 24 by 24 grid: its own are letters of a font of 130 kB.
DOWN = "M7 10l5 5 5-5z"
CROSS = "M18 7.4 16.6 6 12 10.6 7.4 6 6 7.4 10.6 12 6 16.6 7.4 18 12 13.4 16.6 18 18 16.6 13.4 12z"


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
