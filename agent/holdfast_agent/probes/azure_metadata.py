"""Azure's instance metadata service, which answers to the header `Metadata` (instance-metadata-service.md)."""

from holdfast_agent.probes.metadata_service import METADATA_ADDRESS, exchange


def ask(path: str, address: tuple[str, int] = METADATA_ADDRESS) -> tuple[bytes | None, str]:
    """What the service answers, or why it does not. Blocks for seconds at most."""
    return exchange("GET", path, {"Metadata": "true"}, address)
