"""What the agent does not load unless it must: memory that a module took never comes back."""

import subprocess
import sys

import pytest

from holdfast_agent.late_imports import LateModule, imported_late, imported_without

NOT_WITHOUT_NEED = {
    "_hashlib",
    "dbus_fast",
    "email",
    "http.client",
    "importlib.metadata",
    "multiprocessing",
    "rich",
    "ssl",
    "urllib.request",
    "xml.etree.ElementTree",
    "zipfile",
}


def modules_after(program: str) -> set[str]:
    """What a fresh interpreter has loaded after it."""
    program += "\nimport sys\nprint('\\n'.join(name for name, module in sys.modules.items() if module))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_agent_loads_no_tls_mail_or_archives_to_run() -> None:
    """With all probes imported, as `holdfast-agent run` does before it connects: each of these costs megabytes."""
    loaded = modules_after(
        "import holdfast_agent.__main__\n"
        "from holdfast_agent import agent_version, app, registry\n"
        "registry.probe_kinds()\nagent_version()"
    )

    assert "holdfast_agent.link" in loaded
    assert loaded & NOT_WITHOUT_NEED == set()


def test_broker_with_tls_has_tls_loaded() -> None:
    """And paho finds the real exceptions then, or it would take a read that must wait for an error."""
    loaded = modules_after(
        "import holdfast_agent.__main__\n"
        "from holdfast_agent import app\n"
        "from holdfast_agent.broker import LinkOptions, tls_context\n"
        "import paho.mqtt.client as paho\n"
        "try:\n    raise BlockingIOError\n"
        "except paho.ssl.SSLWantReadError:\n    raise SystemExit('caught what it must not')\n"
        "except BlockingIOError:\n    pass\n"
        "tls_context(LinkOptions(brokers=(), client_id='n', up_topic='u', down_topic='d'))\n"
        "import ssl\n"
        "assert paho.ssl.SSLWantReadError is ssl.SSLWantReadError\n"
        "assert paho.ssl.SSLContext is ssl.SSLContext"
    )

    assert "ssl" in loaded


def test_module_that_is_loaded_already_stays_what_it_is() -> None:
    """Or importing the agent would change the program that does."""
    with imported_late("json"), imported_without("json"):
        import json

        assert not isinstance(json, LateModule)
        assert json.loads("1") == 1
    assert sys.modules["json"] is json


def test_late_module_is_imported_when_it_is_asked_for_something() -> None:
    """What stands for it hands out the real one's attributes, and who imports it afterwards gets it itself."""
    sys.modules.pop("colorsys", None)
    with imported_late("colorsys"):
        import colorsys as late

    assert isinstance(late, LateModule)
    assert "colorsys" not in sys.modules
    assert late.rgb_to_hsv(0.0, 0.0, 0.0) == (0.0, 0.0, 0.0)
    assert sys.modules["colorsys"] is not late


def test_hidden_module_is_found_again_afterwards() -> None:
    """Only who is imported meanwhile goes without."""
    sys.modules.pop("colorsys", None)
    with imported_without("colorsys"), pytest.raises(ImportError):
        import colorsys  # noqa: F401  # that it fails is the point

    import colorsys as found

    assert found.rgb_to_hsv(0.0, 0.0, 0.0) == (0.0, 0.0, 0.0)
