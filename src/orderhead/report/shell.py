"""The frame of every page: one file, no request to anywhere, no script but its own."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from html import escape
from importlib import resources
from string import Template


def asset(name: str) -> str:
    """A text file that stands beside the code."""
    return (resources.files("orderhead.report") / name).read_text(encoding="utf-8")


def page(sections: Mapping[str, str], *, script: str = "", data: str = "null", **parts: str) -> str:
    """The page as text; `sections` (HTML) by their name in the contents list, empty ones left out there.

    A link leads to the id that its section starts with. `parts` are title, kicker, answer, below, notes and footer, as
    HTML.
    """
    return Template(asset("page.html")).substitute(
        parts,
        script_hash="sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        css=asset("page.css"),
        nav="".join(_link(name, section) for name, section in sections.items() if section),
        sections="\n".join(sections.values()),
        data=data,
        js=script,
    )


def _link(name: str, section: str) -> str:
    found = re.match(r'<section id="([^"]+)"', section)
    assert found, f"the section {name} starts without an id"
    return f'<a href="#{found[1]}">{escape(name)}</a>'
