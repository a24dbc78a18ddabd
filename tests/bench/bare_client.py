"""What Python with the agent's MQTT library costs that does nothing else: what an agent on it can come down to.

    python bare_client.py HOST:PORT NAME

It sends 3.6 kB each ten seconds, as much as a report in which nothing changed, and is run by `agent_footprint_bench`, in the
agent's own environment: so it imports nothing of this tree.
"""

import asyncio
import sys

import aiomqtt

_UNCHANGED_REPORT = b"x" * 3600
_INTERVAL_SECONDS = 10.0


async def main(address: str, name: str) -> None:
    """Until it is ended."""
    host, _, port = address.partition(":")
    async with aiomqtt.Client(host, int(port), identifier=name) as client:
        await client.subscribe(f"bare/{name}/down", qos=1)
        print("connected", flush=True)
        while True:
            await client.publish(f"bare/{name}/up", _UNCHANGED_REPORT, qos=1)
            await asyncio.sleep(_INTERVAL_SECONDS)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
