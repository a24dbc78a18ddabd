"""Keeps out of the process what libraries import and the agent never or seldom uses.

The memory that a module takes does not come back, so what is not imported is worth more than anything done later.
Resident, with Python 3.11: TLS without TLS 4 MB, `urllib.request` with `http` and `email` 2 MB, OpenSSL's hashes 2 MB.
`log` does the same for `rich`.

Where a module is loaded already, as in tests, nothing changes.
"""

import contextlib
import importlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

_SSL_EXCEPTIONS = frozenset({"SSLWantReadError", "SSLWantWriteError", "CertificateError"})
"""paho names them in `except` clauses: they are asked for on sockets without TLS too, by every read that finds nothing."""


class _NeverRaised(Exception):
    """In place of an exception that only a module which is not loaded could raise."""


class LateModule(ModuleType):
    """Stands for a module until it is asked for something; then that is imported and answers."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)  # the import machinery asks, and does not mean to use it
        if self.__name__ not in sys.modules and self.__name__ == "ssl" and name in _SSL_EXCEPTIONS:
            return _NeverRaised
        return getattr(importlib.import_module(self.__name__), name)


@contextlib.contextmanager
def imported_late(*names: str) -> Iterator[None]:
    """What is imported within gets a `LateModule` for each name; who asks afterwards, the module itself."""
    stands_in = {name: LateModule(name) for name in names if name not in sys.modules}
    sys.modules.update(stands_in)
    for name, module in stands_in.items():
        package, _, last = name.rpartition(".")
        if package:
            setattr(importlib.import_module(package), last, module)
    try:
        yield
    finally:
        for name, module in stands_in.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]


@contextlib.contextmanager
def imported_without(*names: str) -> Iterator[None]:
    """What is imported within does not find these modules, unless they are loaded already."""
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None makes the import fail (import system, 5.3.1)
    try:
        yield
    finally:
        for name in hidden:
            sys.modules.pop(name, None)
