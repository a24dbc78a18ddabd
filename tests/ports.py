"""Loopback ports for servers that tests start."""

import socket


def free_port() -> int:
    """A TCP port nobody listens on now. Somebody else may take it before you do; that is rare, and says so."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def listening(port: int) -> bool:
    """Whether somebody accepts connections on the port."""
    with socket.socket() as client:
        client.settimeout(1.0)
        return client.connect_ex(("127.0.0.1", port)) == 0
