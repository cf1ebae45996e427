"""What may stand in ``cors``: only what a browser sends, and only what is done."""

from __future__ import annotations

from typing import Any

import pytest

from tidings import ConfigurationError, SocketIOPlugin
from tidings.realtime import Origins

GOOD = [
    "*",
    "https://example.org",
    "http://localhost:3000",
    "http://[::1]:8080",
    "capacitor://localhost",
    "chrome-extension://abcdef",
    "null",
    [],
    ["https://a.example", "https://b.example:8443"],
]
BAD = [
    ("https://example.org/", "no path"),
    ("https://example.org/app", "no path"),
    ("example.org", "https://example.org"),
    ("https://example.org:443", "left out"),
    ("http://example.org:80", "left out"),
    ("https://*.example.org", "no patterns"),
    ("https://Example.org", "small letters"),
    ("https://user@example.org", "scheme://host"),
    ("https://", "scheme://host"),
    ("https://a b", "scheme://host"),
    ("", "scheme"),
    (5, "'*', one origin or a list"),
    ([5], "no string"),
    (["https://a.example", "*"], "no patterns"),
    ({"https://a.example"}, "list"),
]


@pytest.mark.parametrize("origin", GOOD)
def test_what_browsers_send_is_taken(origin: Any) -> None:
    SocketIOPlugin(cors={"origin": origin})


@pytest.mark.parametrize(("origin", "words"), BAD)
def test_what_no_browser_sends_is_refused_where_it_is_written(origin: Any, words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        SocketIOPlugin(cors={"origin": origin})
    assert words in str(caught.value)


@pytest.mark.parametrize("methods", [["GET"], ["GET", "POST", "PUT"], "GET", [], None, ["get"]])
def test_methods_that_would_mean_nothing_are_refused(methods: Any) -> None:
    with pytest.raises(ConfigurationError, match="methods"):
        SocketIOPlugin(cors={"methods": methods})


def test_an_option_that_does_not_exist_is_named() -> None:
    with pytest.raises(ConfigurationError, match="'credentials'"):
        SocketIOPlugin(cors={"credentials": True})
    SocketIOPlugin(cors={"origin": "*", "methods": ["GET", "POST"]})


def _scope(origin: str, host: str = "example.org", **headers: str) -> dict[str, Any]:
    given = {"origin": origin, "host": host, **headers}
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in given.items()]
    return {"type": "http", "method": "GET", "scheme": "http", "headers": pairs}


def test_the_own_origin_is_known_behind_a_proxy() -> None:
    own = Origins({"origin": []})
    assert own.allows(_scope("http://example.org"))
    assert not own.allows(_scope("https://example.org"))
    assert own.allows(_scope("https://example.org", x_forwarded_proto="https"))
    outside = {"x_forwarded_proto": "https, http", "x_forwarded_host": "shop.example"}
    assert own.allows(_scope("https://shop.example", "inner:8000", **outside))


def test_a_page_of_the_own_origin_that_is_not_named_is_a_hint(
    caplog: pytest.LogCaptureFixture,
) -> None:
    named = Origins({"origin": "https://shop.example"})
    for _ in range(2):
        assert not named.allows(_scope("http://example.org"))
    assert not named.allows(_scope("http://evil.example"))
    hints = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert len(hints) == 1
    assert "'http://example.org'" in hints[0]
