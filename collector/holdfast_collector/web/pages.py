"""HTML from what the views say: the one place where jinja2 is known.

Everything is escaped: what agents send is hostile. A name that does not exist is an error, not an empty string.
"""

import hashlib
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from msgspec import Struct

STYLE = (files("holdfast_collector.web") / "templates" / "style.css").read_bytes()
STYLE_VERSION = hashlib.sha256(STYLE).hexdigest()[:12]
"""In the style sheet's address, so that browsers may keep it for ever."""

_environment = Environment(
    loader=PackageLoader("holdfast_collector.web"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)
_environment.globals["style_version"] = STYLE_VERSION


class Reload(Struct, frozen=True):
    """Whether the browser asks again by itself, and how the reader changes that."""

    seconds: int
    """0: it does not."""
    live_query: str
    """What this page's address says with it, after the question mark; empty for a page that never does."""
    paused_query: str
    """And without."""


NO_RELOAD = Reload(0, "", "")


def render(template: str, view: Struct, reload: Reload) -> bytes:
    """A page, as UTF-8."""
    page = _environment.get_template(template).render(view=view, reload=reload)
    return page.encode(errors="replace")
