"""The holdfast agent: observes one machine and says what it sees over MQTT.

`probe` is the border to the machine, `core` decides, `link` speaks, `spool` remembers, `app` puts them together.
"""

from importlib import metadata

__all__ = ["agent_version"]


def agent_version() -> str:
    """The version of the installed distribution."""
    return metadata.version("holdfast")
