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


def render(template: str, view: Struct, *, refresh_seconds: int = 0) -> bytes:
    """A page. `refresh_seconds`: how soon the browser asks again by itself; 0: never."""
    page = _environment.get_template(template).render(view=view, refresh_seconds=refresh_seconds)
    return page.encode(errors="replace")
