"""`holdfast-agent test-connection`: the way to the collector, step by step, each with a verdict and a remedy.

The last step is a real one: a short run of the agent with its own identity, whose birth message the collector must
acknowledge. So it needs the state folder to itself. Beside a running agent it stops before publishing, under another
client id: a second client of the same name would throw the agent off the broker.
"""

import asyncio
import os
import socket
import ssl
import sys
import time
from pathlib import Path
from typing import NoReturn

from msgspec import structs

from holdfast_agent.app import stamp
from holdfast_agent.background import BackgroundThreads
from holdfast_agent.broker import BrokerAddress, LinkOptions, tls_context
from holdfast_agent.config import AgentConfig
from holdfast_agent.core.session import Identity, Session
from holdfast_agent.errors import AlreadyRunning, LinkDown
from holdfast_agent.identity import Standing, StateFolder
from holdfast_agent.link import Connection, Link
from holdfast_agent.link_user import LinkStanding
from holdfast_agent.machine_profile import PreviousBoot, profile, this_machine
from holdfast_agent.spool import Spool
from holdfast_wire import Ack, Acknowledgement, decode_down

STEP_SECONDS = 5.0
ECHO_SECONDS = 10.0


def run(config: AgentConfig) -> int:
    """Try every broker; 0 when the whole way works with at least one of them."""
    _become_owner(Path(config.state_dir))
    folder = StateFolder(Path(config.state_dir))
    try:
        standing: Standing | None = folder.open()
    except AlreadyRunning:
        standing = None
        print("the agent is running: its publishing is not tried beside it; its log tells how it fares\n")

    async def main() -> bool:
        asyncio.get_running_loop().set_default_executor(BackgroundThreads())
        worked = [await _Trial(config, broker, standing).run() for broker in config.link_options().brokers]
        return any(worked)

    factory = asyncio.SelectorEventLoop if sys.platform == "win32" else None
    try:
        with asyncio.Runner(loop_factory=factory) as runner:
            return 0 if runner.run(main()) else 1
    finally:
        folder.close(clean=True)


def _become_owner(folder: Path) -> None:
    """As root, act as the agent's own user: files made here must be its own, and what it may not read must show."""
    if sys.platform == "win32" or os.geteuid() != 0 or not folder.exists():
        return
    owner = folder.stat()
    if owner.st_uid != 0:
        os.setegid(owner.st_gid)
        os.seteuid(owner.st_uid)


def _tls_facts(context: ssl.SSLContext, broker: BrokerAddress) -> str:
    """Shake hands; what was agreed and how long the broker's certificate lasts. Blocks."""
    with (
        socket.create_connection((broker.host, broker.port), STEP_SECONDS) as plain,
        context.wrap_socket(plain, server_hostname=broker.host) as secured,
    ):
        ends = (secured.getpeercert() or {}).get("notAfter")
        lasts = ""
        if isinstance(ends, str):
            days = (ssl.cert_time_to_seconds(ends) - time.time()) / 86_400
            lasts = f", the broker's certificate lasts {days:.0f} more days"
        return f"{secured.version()}{lasts}"


class _Stop(Exception):
    """A step failed; what follows it makes no sense."""


class _Trial:
    """The steps with one broker. Is the user of the link that it makes."""

    def __init__(self, config: AgentConfig, broker: BrokerAddress, standing: Standing | None) -> None:
        self._config = config
        self._broker = broker
        self._standing = standing
        self._refusal: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._echo: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._acked: list[Acknowledgement] = []
        self._digest = ""
        self._session: Session | None = None

    async def run(self) -> bool:
        """Print each step; whether all of them worked."""
        print(self._broker)
        try:
            address = await self._resolve()
            await self._dial(address)
            if self._broker.tls:
                await self._handshake()
            if self._standing is None:
                await self._listen()
            else:
                await self._speak(self._standing)
        except _Stop:
            return False
        finally:
            print()
        return True

    # The network

    async def _resolve(self) -> str:
        began = time.monotonic()
        try:
            found = await asyncio.wait_for(
                asyncio.get_running_loop().getaddrinfo(
                    self._broker.host, self._broker.port, type=socket.SOCK_STREAM
                ),
                STEP_SECONDS * 2,
            )
        except socket.gaierror as error:
            self._fail(
                "name",
                error.strerror or "not found",
                f"check the name {self._broker.host!r} and this machine's resolver",
            )
        except TimeoutError:
            self._fail("name", "the resolver does not answer", "check /etc/resolv.conf")
        addresses = sorted({str(each[4][0]) for each in found})
        self._ok("name", f"{self._broker.host} is {', '.join(addresses)}", began)
        return addresses[0]

    async def _dial(self, address: str) -> None:
        began = time.monotonic()
        try:
            _, writer = await asyncio.wait_for(
                asyncio.open_connection(self._broker.host, self._broker.port), STEP_SECONDS
            )
        except TimeoutError:
            self._fail("tcp", f"{address} does not answer", "check routes and firewalls on the way")
        except OSError as error:
            what = os.strerror(error.errno) if error.errno else str(error)
            self._fail("tcp", what, f"check that a broker listens on port {self._broker.port}, and firewalls")
        writer.close()
        self._ok("tcp", f"port {self._broker.port} accepts", began)

    async def _handshake(self) -> None:
        began = time.monotonic()
        options = self._config.link_options()
        loop = asyncio.get_running_loop()
        try:
            context = await loop.run_in_executor(None, tls_context, options)
            said = await asyncio.wait_for(
                loop.run_in_executor(None, _tls_facts, context, self._broker), STEP_SECONDS * 2
            )
        except LinkDown as error:
            self._fail("tls", error.reason, "check the file and that the agent's user may read it")
        except ssl.SSLCertVerificationError as error:
            self._fail("tls", error.verify_message, "check ca_file, server_name and the broker's certificate")
        except (OSError, TimeoutError) as error:
            self._fail(
                "tls", str(error) or "no answer", "check that this port speaks TLS: mqtt:// is the plain one"
            )
        self._ok("tls", said, began)

    # MQTT

    async def _listen(self) -> None:
        """Beside a running agent: authenticate and subscribe as somebody else, publish nothing."""
        options = self._config.link_options()
        connection, _ = await self._connect(structs.replace(options, client_id=f"{options.client_id}-test"))
        await connection.close(None)

    async def _speak(self, standing: Standing) -> None:
        """A short run of the agent."""
        config = self._config
        identity = Identity(
            node=config.node, install_id=standing.install_id, boot_id=standing.boot_id, epoch=standing.epoch
        )
        self._session = session = Session(identity, config.interval)
        spool = Spool(
            Path(config.state_dir),
            bytes_max=config.spool.bytes_max,
            messages_max=config.spool.messages_max,
            changed=lambda event, detail: print(f"  {event}: {detail}"),
        )
        await spool.open()
        known_as = profile(standing, this_machine(), PreviousBoot())
        birth = session.birth(stamp(), known_as, [], spool.facts)
        await spool.append(birth)
        session.spooled(birth)
        self._digest = birth.digest
        try:
            connection, _ = await self._connect(config.link_options())
            reading = asyncio.create_task(connection.receive(self.received))
            try:
                await self._publish(connection, birth.payload)
                await self._await_echo()
                spool.acknowledge(self._acked)
            finally:
                reading.cancel()
                await connection.close(session.death(stamp()))
        finally:
            await spool.close()

    async def _connect(self, options: LinkOptions) -> tuple[Connection, LinkStanding]:
        began = time.monotonic()
        try:
            _, connection, standing = await Link(options, self).open(self._broker)
        except LinkDown as error:
            self._fail("mqtt", error.reason, "check username, password or certificate, and the broker's log")
        self._ok("mqtt", f"connected as {options.client_id!r} with MQTT {standing.protocol}", began)
        if standing.subscribed:
            self._ok("subscribe", options.down_topic)
        else:
            await connection.close(None)
            remedy = "allow this node to read its down topic in the broker's access list"
            self._fail("subscribe", f"{options.down_topic} refused", remedy)
        return connection, standing

    async def _publish(self, connection: Connection, payload: bytes) -> None:
        began = time.monotonic()
        topic = self._config.link_options().up_topic
        connection.publish(payload, 1)
        await asyncio.wait([self._refusal], timeout=STEP_SECONDS)
        if not self._refusal.done():
            self._fail("publish", f"{topic} is not acknowledged", "the broker may have hung up: see its log")
        if self._refusal.result():
            remedy = "allow this node to write its up topic in the broker's access list"
            self._fail("publish", f"{topic} refused: {self._refusal.result()}", remedy)
        self._ok("publish", f"{topic} taken by the broker", began)

    async def _await_echo(self) -> None:
        began = time.monotonic()
        await asyncio.wait([self._echo], timeout=ECHO_SECONDS)
        if not self._echo.done():
            remedy = "check that the collector runs, is connected to this broker, and may write down topics"
            self._fail("collector", f"no acknowledgement within {ECHO_SECONDS:g} s", remedy)
        self._ok("collector", "has the birth message on its disk and says so", began)

    # Verdicts

    def _ok(self, step: str, what: str, began: float | None = None) -> None:
        took = f" ({(time.monotonic() - began) * 1000:.0f} ms)" if began is not None else ""
        print(f"  {step:<10} ok      {what}{took}")

    def _fail(self, step: str, what: str, remedy: str) -> NoReturn:
        print(f"  {step:<10} FAILED  {what}\n{'':<20}{remedy}")
        raise _Stop

    # What the link tells

    def connecting(self) -> tuple[int, bytes | None]:
        if self._session is None:
            return 1, None
        return self._session.connecting(stamp())

    def answered(self, number: int, token: int, refusal: str) -> None:
        if not self._refusal.done():
            self._refusal.set_result(refusal)

    def received(self, payload: bytes) -> None:
        message = decode_down(payload)
        if not isinstance(message, Ack) or self._session is None:
            return
        self._acked += self._session.acked(stamp(), message)
        if any(each.digest == self._digest for each in self._acked) and not self._echo.done():
            self._echo.set_result("")

    def connected(self, number: int, standing: LinkStanding) -> None:
        """The link is only asked to open; it tells us by returning."""

    def connect_failed(self, broker: BrokerAddress, reason: str, pause_seconds: float) -> None:
        """As above."""

    def disconnected(self, number: int, reason: str) -> None:
        """As above."""

    def taken_over(self, number: int) -> None:
        """As above."""
