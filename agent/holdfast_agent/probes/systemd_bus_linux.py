"""A connection to systemd over the system bus (org.freedesktop.systemd1(5)): the only file that knows dbus-fast.

Properties come as plain values. Many calls are under way at once, but not too many: dbus-fast gives up a connection
whose socket is full (seen with 5.2 and 300 calls at once).
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from holdfast_agent.probe import Denied, Unsupported

if TYPE_CHECKING:
    from dbus_fast import Message
    from dbus_fast.aio import MessageBus

_SYSTEMD = "org.freedesktop.systemd1"
_MANAGER_PATH = "/org/freedesktop/systemd1"
_MANAGER = "org.freedesktop.systemd1.Manager"
_UNIT_PATHS = "/org/freedesktop/systemd1/unit"
UNIT = "org.freedesktop.systemd1.Unit"
SERVICE = "org.freedesktop.systemd1.Service"
_PROPERTIES = "org.freedesktop.DBus.Properties"
_CALLS_UNDER_WAY_MAX = 8

Properties = Mapping[str, Any]


class ListedUnit(Struct, frozen=True):
    """One entry of Manager.ListUnits."""

    id: str
    description: str
    load_state: str
    active_state: str
    sub_state: str
    path: str


class Change(Struct, frozen=True):
    """A PropertiesChanged signal of a service: for `interface`, UNIT or SERVICE, these have new values."""

    unit: str
    path: str
    interface: str
    properties: Properties


class BusLost(ConnectionError):
    """The connection ended, or systemd does not answer on it."""


@asynccontextmanager
async def systemd_bus(rootfs: Path) -> AsyncIterator["SystemdBus"]:
    """A connection until the block ends. Raises `Unsupported` without systemd or its bus, `Denied`, or `BusLost`."""
    socket = rootfs / "run" / "dbus" / "system_bus_socket"
    bus = SystemdBus(await _connect(socket))
    try:
        yield bus
    finally:
        bus.close()


async def _connect(socket: Path) -> "MessageBus":
    from dbus_fast import AuthError, InvalidAddressError
    from dbus_fast.aio import MessageBus

    try:
        # Before dbus-fast 5 the constructor connects.
        return await MessageBus(bus_address=f"unix:path={socket}").connect()
    except FileNotFoundError:
        raise Unsupported(
            f"there is no system bus at {socket}: no systemd here, or dbus is not installed"
        ) from None
    except (PermissionError, AuthError) as error:
        raise Denied(f"the system bus at {socket} refuses the agent: {error}") from None
    except (OSError, EOFError, InvalidAddressError) as error:
        raise BusLost(f"the system bus at {socket} cannot be reached: {error}") from error


class SystemdBus:
    """What is asked of systemd. Every method may raise `Unsupported`, `Denied` or `BusLost`."""

    def __init__(self, bus: "MessageBus") -> None:
        self._bus = bus
        self._room = asyncio.Semaphore(_CALLS_UNDER_WAY_MAX)

    async def services(self) -> list[ListedUnit]:
        """All service units that systemd has in memory."""
        (units,) = await self._call(
            _MANAGER_PATH, _MANAGER, "ListUnitsByPatterns", "asas", [[], ["*.service"]]
        )
        # Between the two: the unit that it follows. After them: its job.
        return [
            ListedUnit(id_, description, load, active, sub, path)
            for id_, description, load, active, sub, _, path, *_ in units
        ]

    async def service_properties(self, path: str) -> Properties:
        """All properties of the Service interface."""
        (properties,) = await self._call(path, _PROPERTIES, "GetAll", "s", [SERVICE])
        return _plain(properties)

    async def unit_properties(self, path: str, names: Iterable[str]) -> Properties:
        """Some properties of the Unit interface. All of them would cost process 1 two milliseconds a unit."""
        names = list(names)
        values = await asyncio.gather(
            *(self._call(path, _PROPERTIES, "Get", "ss", [UNIT, name]) for name in names)
        )
        return {name: value.value for name, (value,) in zip(names, values, strict=True)}

    async def subscribe(self, changed: Callable[[Change], None], reloaded: Callable[[], None]) -> None:
        """Call back for every change of a service, and when unit files were changed or read anew.

        systemd sends no signal before `Subscribe`. It sends a service's properties before the unit's, so that who waits
        for the unit's knows both (send_changed_signal in src/core/dbus-unit.c).
        """
        from dbus_fast import MessageType

        def handle(message: "Message") -> None:
            if message.message_type is not MessageType.SIGNAL:
                return
            if message.interface == _MANAGER:
                reloaded()
            elif message.member == "PropertiesChanged" and (message.path or "").endswith("_2eservice"):
                interface, properties, _ = message.body
                path = message.path or ""
                changed(Change(unit_of_path(path), path, interface, _plain(properties)))

        self._bus.add_message_handler(handle)
        about_units = f"interface='{_PROPERTIES}',member='PropertiesChanged',path_namespace='{_UNIT_PATHS}'"
        for rule in (
            f"{about_units},arg0='{UNIT}'",
            f"{about_units},arg0='{SERVICE}'",
            f"interface='{_MANAGER}',member='UnitFilesChanged'",
            f"interface='{_MANAGER}',member='Reloading'",
        ):
            await self._add_match(f"type='signal',sender='{_SYSTEMD}',{rule}")
        await self._call(_MANAGER_PATH, _MANAGER, "Subscribe", "", [])

    async def until_lost(self) -> None:
        """Wait for the connection's end."""
        try:
            await self._bus.wait_for_disconnect()  # type: ignore[no-untyped-call]  # dbus-fast leaves it untyped
        except (OSError, EOFError) as error:
            raise BusLost(f"the system bus ended the connection: {error}") from error
        raise BusLost("the system bus ended the connection")

    def close(self) -> None:
        if self._bus.connected:
            self._bus.disconnect()

    async def _add_match(self, rule: str) -> None:
        await self._call(
            "/org/freedesktop/DBus",
            "org.freedesktop.DBus",
            "AddMatch",
            "s",
            [rule],
            destination="org.freedesktop.DBus",
        )

    async def _call(
        self,
        path: str,
        interface: str,
        member: str,
        signature: str,
        body: list[Any],
        destination: str = _SYSTEMD,
    ) -> list[Any]:
        from dbus_fast import DBusError, Message, MessageFlag, MessageType

        message = Message(
            destination=destination,
            path=path,
            interface=interface,
            member=member,
            signature=signature,
            body=body,
            flags=MessageFlag.NO_AUTOSTART,
        )
        async with self._room:
            try:
                reply = await self._bus.call(message)
            except (OSError, EOFError, DBusError) as error:
                raise BusLost(f"the system bus ended the connection: {error}") from error
        if reply.message_type is MessageType.ERROR:
            raise _refusal(reply.error_name or "", ": ".join(str(part) for part in reply.body))
        return list(reply.body)


_NOT_HERE = frozenset(
    {"ServiceUnknown", "NameHasNoOwner", "UnknownMethod", "UnknownInterface", "Spawn.ExecFailed"}
)


def _refusal(name: str, words: str) -> Exception:
    """What an error reply means for the probe."""
    short = name.removeprefix("org.freedesktop.DBus.Error.")
    if short in _NOT_HERE:
        return Unsupported(f"no systemd on the system bus: {words}")
    if short in ("AccessDenied", "InteractiveAuthorizationRequired"):
        return Denied(f"systemd refuses: {words}")
    return UnitGone(words) if short in ("UnknownObject", "UnknownProperty") else BusLost(f"{name}: {words}")


class UnitGone(Exception):
    """systemd has forgotten the unit since it was listed."""


def _plain(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {name: variant.value for name, variant in properties.items()}


_ESCAPED = re.compile(r"_([0-9a-f]{2})")


def unit_of_path(path: str) -> str:
    """`…/unit/ssh_2eservice` → `ssh.service`: all but letters and digits are escaped (sd_bus_path_encode(3))."""
    name = path.rpartition("/")[2]
    raw = _ESCAPED.sub(lambda match: chr(int(match[1], 16)), name)
    return raw.encode("latin-1", "replace").decode("utf-8", "replace")
