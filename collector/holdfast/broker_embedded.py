"""The broker of `holdfast up` where mosquitto is not installed: amqtt, in a process of its own. The only file that knows it.

    python -m holdfast.broker_embedded PORT

Good for trying on one machine, and for nothing else: it speaks MQTT 3.1.1 only, is slow, and forgets messages it has
acknowledged when their sender leaves. holdfast copes with all of that, because it takes no broker's word for delivery,
but somebody sizing a fleet should not measure it.
"""

import asyncio
import contextlib
import logging
import signal
import sys
from typing import Any, Self

from amqtt.broker import Broker
from amqtt.errors import MQTTError
from amqtt.mqtt.connect import ConnectPacket, ConnectVariableHeader

_ANONYMOUS = "amqtt.plugins.authentication.AnonymousAuthPlugin"


_LEVEL = 4
"""Of MQTT 3.1.1 (its section 3.1.2.2)."""


class _Header(ConnectVariableHeader):  # type: ignore[misc]  # amqtt's types are not looked at
    """The beginning of a CONNECT, refused where amqtt would misread what follows.

    It takes the properties of an MQTT 5 CONNECT for a client id and waits for more of them than will ever come, while
    the client waits for an answer. Hung up on, clients ask again with 3.1.1 at once.
    """

    @classmethod
    async def from_stream(cls, reader: Any, fixed_header: Any) -> Self:
        header: Self = await super().from_stream(reader, fixed_header)
        if header.proto_level != _LEVEL:
            raise MQTTError(f"protocol level {header.proto_level}; this broker speaks MQTT 3.1.1 only")
        return header


async def serve(port: int) -> None:
    """Listen on loopback until SIGTERM or SIGINT."""
    ConnectPacket.VARIABLE_HEADER = _Header
    broker = Broker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}", "max_connections": 1000}},
            "plugins": {_ANONYMOUS: {"allow_anonymous": True}},
        }
    )
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for end in (signal.SIGTERM, signal.SIGINT):
        # Windows' event loop has no signal handlers; there the process is ended without notice.
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(end, stopping.set)
    await broker.start()
    await stopping.wait()
    await broker.shutdown()


def main() -> int:
    """Run the broker on the port that is named; exit code 2 when none is."""
    if len(sys.argv) != 2 or not sys.argv[1].isdecimal():
        print("usage: python -m holdfast.broker_embedded PORT", file=sys.stderr)
        return 2
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    asyncio.run(serve(int(sys.argv[1])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
