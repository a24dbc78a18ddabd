"""What systemd says of running services' paths, over D-Bus."""

import asyncio
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from holdfast_agent.probes.state_raw import UnitRaw
from holdfast_agent.probes.systemd_bus_linux import ListedUnit, SystemdBus, UnitGone, systemd_bus

ANSWER_SECONDS = 12.0
_OF_UNIT = ("RequiresMountsFor", "Requires", "BindsTo", "NeedDaemonReload")


def read_units(rootfs: Path, wanted: Collection[str]) -> dict[str, UnitRaw]:
    """The loaded units among those wanted. Raises as `systemd_bus`, and TimeoutError."""
    return asyncio.run(_read(rootfs, wanted))


async def _read(rootfs: Path, wanted: Collection[str]) -> dict[str, UnitRaw]:
    async with asyncio.timeout(ANSWER_SECONDS), systemd_bus(rootfs) as bus:
        listed = [unit for unit in await bus.services() if unit.id in wanted and unit.load_state == "loaded"]
        units = await asyncio.gather(*(_unit(bus, unit) for unit in listed))
    return {unit.id: raw for unit, raw in zip(listed, units, strict=True) if raw is not None}


async def _unit(bus: SystemdBus, listed: ListedUnit) -> UnitRaw | None:
    try:
        service = await bus.service_properties(listed.path)
        unit = await bus.unit_properties(listed.path, _OF_UNIT)
    except UnitGone:
        return None
    return unit_raw(service, unit)


def unit_raw(service: Mapping[str, Any], unit: Mapping[str, Any]) -> UnitRaw:
    """Properties of the Service and the Unit interface → what is kept of them."""
    commands = service.get("ExecStart") or []
    working = str(service.get("WorkingDirectory", "")).lstrip("!-")
    return UnitRaw(
        state_directories=tuple(service.get("StateDirectory", ())),
        cache_directories=tuple(service.get("CacheDirectory", ())),
        logs_directories=tuple(service.get("LogsDirectory", ())),
        configuration_directories=tuple(service.get("ConfigurationDirectory", ())),
        read_write_paths=tuple(service.get("ReadWritePaths", ())),
        bind_paths=tuple(str(row[1]) for row in service.get("BindPaths", ())),
        working_directory=working,
        private_tmp=service.get("PrivateTmp") in (True, "connected", "disconnected"),
        dynamic_user=bool(service.get("DynamicUser", False)),
        started_as=tuple(commands[0][1]) if commands else (),
        requires_mounts_for=tuple(unit.get("RequiresMountsFor", ())),
        required_units=(*unit.get("Requires", ()), *unit.get("BindsTo", ())),
        need_daemon_reload=bool(unit.get("NeedDaemonReload", False)),
        main_pid=int(service.get("MainPID", 0)),
    )
