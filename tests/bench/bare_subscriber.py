"""A peer for the collector: an aiomqtt subscriber that only decodes. Run by `collector_bench`, as a process of its own.

    python -m tests.bench.bare_subscriber PORT MESSAGES

It acknowledges when aiomqtt does, before anything is durable, evaluates no rule, keeps nothing and exposes nothing.
Prints `ready` once subscribed and `done` after so many messages.
"""

import asyncio
import sys

import aiomqtt

from holdfast_wire import Refusal, decode_up
from holdfast_wire.topic import UP_FILTER


async def _subscribe(port: int, messages: int) -> None:
    async with aiomqtt.Client("127.0.0.1", port, identifier="bare-subscriber") as client:
        await client.subscribe(UP_FILTER, qos=1)
        print("ready", flush=True)
        async for message in client.messages:
            assert isinstance(message.payload, bytes)
            decoded = decode_up(message.topic.value.split("/")[2], message.payload)
            assert not isinstance(decoded, Refusal), decoded
            messages -= 1
            if not messages:
                print("done", flush=True)


if __name__ == "__main__":
    asyncio.run(_subscribe(int(sys.argv[1]), int(sys.argv[2])))
