"""The holdfast agent: observes one machine and says what it sees over MQTT.

`probe` is the border to the machine, `core` decides, `link` speaks, `spool` remembers, `app` puts them together.
"""

import os
import sys

__all__ = ["agent_version"]

_NAME, _SUFFIX = "holdfast-", ".dist-info"


def agent_version() -> str:
    """The version of the installed distribution.

    By the name of its folder (the wheel specification: `{distribution}-{version}.dist-info`), where there is one:
    `importlib.metadata` says the same and takes 5 MB, for it reads mail and archives.
    """
    for folder in sys.path:
        try:
            names = os.listdir(folder or os.curdir)
        except OSError:
            continue  # an archive, or nothing
        for name in names:
            if name.startswith(_NAME) and name.endswith(_SUFFIX):
                return name[len(_NAME) : -len(_SUFFIX)]
    from importlib import metadata

    return metadata.version("holdfast")
