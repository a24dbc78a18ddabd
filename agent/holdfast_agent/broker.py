"""Which brokers there are, and what a connection to one trusts and shows. Knows TLS, not MQTT."""

from typing import TYPE_CHECKING, Any, Literal

from msgspec import Struct

from holdfast_agent.errors import LinkDown

if TYPE_CHECKING:
    import ssl  # else only where a broker wants it: 4 MB

MqttVersion = Literal["auto", "5", "3.1.1"]


class BrokerAddress(Struct, frozen=True):
    """One broker of the list."""

    host: str
    port: int
    tls: bool

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.tls else 'mqtt'}://{host}:{self.port}"


class LinkOptions(Struct, frozen=True, kw_only=True):
    """How to reach and convince a broker. Files are read anew for each connection, so that they can be renewed."""

    brokers: tuple[BrokerAddress, ...]
    client_id: str
    up_topic: str
    down_topic: str
    username: str = ""
    password_file: str = ""
    ca_file: str = ""
    """Empty: the system's own authorities."""
    cert_file: str = ""
    key_file: str = ""
    server_name: str = ""
    """The name in the broker's certificate where it is not the host in its address."""
    protocol: MqttVersion = "auto"
    """`auto`: MQTT 5, and 3.1.1 with a broker that does not speak it."""
    keepalive_seconds: float = 30.0
    will_delay_seconds: float = 10.0


def tls_context(options: LinkOptions) -> "ssl.SSLContext":
    """What a TLS connection trusts and shows. Blocks on files. Raises LinkDown that names the file at fault."""
    import ssl

    class NamedContext(ssl.SSLContext):
        """A context that checks the certificate against another name than the one that was dialled."""

        def wrap_socket(self, *arguments: Any, **named: Any) -> ssl.SSLSocket:
            named["server_hostname"] = options.server_name or named.get("server_hostname")
            return super().wrap_socket(*arguments, **named)

    context = NamedContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        if options.ca_file:
            context.load_verify_locations(cafile=options.ca_file)
        else:
            context.load_default_certs()
    except (OSError, ssl.SSLError) as error:
        raise LinkDown(f"ca_file {options.ca_file}: {error.strerror or error}") from None
    if options.cert_file:
        try:
            context.load_cert_chain(options.cert_file, options.key_file or None)
        except (OSError, ssl.SSLError) as error:
            files = f"cert_file {options.cert_file}, key_file {options.key_file or options.cert_file}"
            raise LinkDown(f"{files}: {error.strerror or error}") from None
    return context
