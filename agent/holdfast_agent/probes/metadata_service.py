"""A cloud's instance metadata service: one question, one answer, or why there is none.

All of them answer on the same link-local address, without TLS, to whoever asks with the right header. They may be
blocked, throttled or down: that is no answer, and no news.
"""

from collections.abc import Mapping

METADATA_ADDRESS = ("169.254.169.254", 80)
_TIMEOUT_SECONDS = 2.0
_ANSWER_BYTES_MAX = 1 << 20
_OK = 200


def exchange(
    method: str, path: str, headers: Mapping[str, str], address: tuple[str, int] = METADATA_ADDRESS
) -> tuple[bytes | None, str]:
    """What the service answers, or why it does not. Blocks for seconds at most; goes through no proxy."""
    # Here, for it loads the whole of `email`, and only agents in a cloud need it.
    from http.client import HTTPConnection, HTTPException

    connection = HTTPConnection(*address, timeout=_TIMEOUT_SECONDS)
    try:
        connection.request(method, path, headers=dict(headers))
        response = connection.getresponse()
        answer = response.read(_ANSWER_BYTES_MAX)
        if response.status != _OK:
            return None, f"the instance metadata service answers {response.status} {response.reason}"
        return answer, ""
    except (OSError, HTTPException) as error:
        return None, f"the instance metadata service does not answer: {error}"
    finally:
        connection.close()
