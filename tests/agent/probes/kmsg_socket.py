"""A stand-in for an open /dev/kmsg: a datagram socket gives one record per read, too."""

import socket
from types import TracebackType
from typing import Self


class KmsgSocket:
    """Lines said to it are records to whoever reads `descriptor`."""

    def __init__(self) -> None:
        self._writing, self._reading = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._reading.setblocking(False)
        self.descriptor = self._reading.fileno()
        self.next_seq = 0

    def say(self, text: str, *, seq: int | None = None, priority: int = 3) -> None:
        """One record; without `seq`, the one after the last."""
        seq = self.next_seq if seq is None else seq
        self.next_seq = seq + 1
        self._writing.send(f"{priority},{seq},1000,-;{text}\n".encode())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writing.close()
        self._reading.close()
