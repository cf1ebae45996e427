"""What ``redis=`` may say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tidings import ConfigurationError
from tidings.feed.redis import RedisOptions, redis_log


def test_the_options_of_the_guide_are_taken_as_they_are() -> None:
    given = {"host": "redis.example", "port": 6380, "password": "secret", "db": 2}
    options = RedisOptions.read(given)
    assert options == RedisOptions("redis.example", 6380, 2, password="secret")
    assert options.where == "redis://redis.example:6380/2"
    assert RedisOptions.read({}).where == "redis://localhost:6379/0"
    assert RedisOptions.read({"password": None, "db": None}) == RedisOptions()


@pytest.mark.parametrize(
    ("url", "expected", "where"),
    [
        ("redis://", {}, "redis://localhost:6379/0"),
        ("redis://h", {"host": "h"}, "redis://h:6379/0"),
        (
            "redis://u:p%40%2F@h:1/3",
            {"host": "h", "port": 1, "db": 3, "username": "u", "password": "p@/"},
            "redis://h:1/3",
        ),
        ("redis://:p@[::1]:7/", {"host": "::1", "port": 7, "password": "p"}, "redis://[::1]:7/0"),
        ("rediss://h?db=4", {"host": "h", "ssl": True, "db": 4}, "rediss://h:6379/4"),
        (
            "rediss://h?ssl_check_hostname=false&name=n",
            {"host": "h", "ssl": True, "ssl_check_hostname": False, "name": "n"},
            "rediss://h:6379/0",
        ),
        (
            "unix://:p@/run/r.sock?db=1&max_length=50&max_age=60",
            {"path": "/run/r.sock", "password": "p", "db": 1, "max_length": 50, "max_age": 60.0},
            "unix:///run/r.sock?db=1",
        ),
        (
            "redis://u:p@a:1,b,[::1]:3/2",
            {
                "nodes": (("a", 1), ("b", 6379), ("::1", 3)),
                "username": "u",
                "password": "p",
                "db": 2,
            },
            "redis://a:1,b:6379,[::1]:3/2",
        ),
        (
            "rediss+sentinel://:p@a,b:2/mymaster/1?sentinel_password=q",
            {
                "sentinels": (("a", 26379), ("b", 2)),
                "service": "mymaster",
                "password": "p",
                "sentinel_password": "q",
                "ssl": True,
                "db": 1,
            },
            "rediss+sentinel://a:26379,b:2/mymaster/1",
        ),
    ],
)
def test_a_url_says_the_same(url: str, expected: dict[str, Any], where: str) -> None:
    options = RedisOptions.read(url)
    assert options == RedisOptions(**expected)
    assert options.where == where
    assert RedisOptions.read({"url": url, "name": "over"}).name == "over"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"hots": "h"}, "'hots' is not known; known are url, host, port, password, db,"),
        ({"port": "6379"}, "port must be a whole number from 1 to 65535, not '6379'"),
        ({"port": 0}, "port must be"),
        ({"port": True}, "port must be"),
        ({"db": -1}, "db must be"),
        ({"host": ""}, "host must be a text"),
        ({"host": 7}, "host must be a text that is not empty, not 7"),
        ({"ssl": "yes"}, "ssl must be True or False"),
        ({"ssl_ca_certs": "/nowhere.pem", "ssl": True}, "there is no file '/nowhere.pem'"),
        ({"ssl_ca_certs": __file__}, "ssl_ca_certs needs ssl=True"),
        ({"ssl_check_hostname": False}, "ssl_check_hostname needs ssl=True"),
        ({"ssl": True, "ssl_keyfile": __file__}, "ssl_keyfile needs ssl_certfile"),
        ({"username": "u"}, "username needs password"),
        ({"path": "/s", "ssl": True}, "a Unix socket has no ssl"),
        ({"max_length": 0}, "max_length must be"),
        ({"max_length": 1.5}, "max_length must be"),
        ({"max_age": 0}, "max_age must be at least 1 second"),
        ({"max_age": float("inf")}, "max_age must be"),
        ({"name": "a{b}"}, "without braces"),
        ({"name": "x" * 101}, "at most 100"),
        ({"nodes": "a:1"}, 'nodes must be addresses, ["host-1:6379", "host-2:6379"]'),
        ({"nodes": ["a:x"]}, "nodes must be addresses"),
        ({"nodes": [":1"]}, "nodes must be addresses"),
        ({"nodes": []}, "nodes must be addresses"),
        ({"sentinels": ["a"]}, "sentinels need service"),
        ({"service": "m"}, "need sentinels"),
        ({"sentinels": ["a"], "service": "m", "sentinel_username": "u"}, "sentinel_password"),
        ({"nodes": ["a"], "host": "b"}, "give nodes or host, not both"),
        ({"nodes": ["a"], "sentinels": ["b"]}, "give nodes or sentinels, not both"),
        ("redis://a,b:x", "the URL cannot be read"),
        ("redis+sentinel://a", "sentinels need service"),
        ({"url": 5}, "url is text, not int"),
        (5, "a mapping or a URL, not int"),
        ("localhost:6379", "must begin with redis://"),
        ("http://h", "must begin with redis://"),
        ("redis://h:99999", "the URL cannot be read"),
        ("redis://h:x", "the URL cannot be read"),
        ("redis://[h", "the URL cannot be read"),
        ("redis://h/first", "db in the URL must be a whole number"),
        ("rediss://h?ssl_check_hostname=maybe", "must be true or false"),
        ("redis://h?socket_timeout=1", "has an option that is not known; known are host"),
        ("unix://", "names the socket"),
    ],
)
def test_what_is_of_no_use_is_named(given: Any, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        RedisOptions.read(given)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        {"password": 12345678},
        {"password": "12345678", "hots": 1},
        "redis://:12345678@h:x",
        "redis:/:12345678@h",
        "redis://:12345678@h/db",
        "redis://:12345678@h,g:x",
        "redis+sentinel://h/m?sentinel_password=12345678&db=x",
        {"sentinel_password": "12345678"},
        "redis://h/12345678x@h",
        "redis://:1?12345678@h/0",
        "redis://:1#12345678@h/0",
        {"url": "rediss://:12345678@h", "port": "x"},
    ],
)
def test_no_message_shows_a_password(given: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        RedisOptions.read(given)
    assert "12345678" not in f"{caught.value} {caught.value.__cause__}"


def test_nothing_else_shows_a_password() -> None:
    log = redis_log("redis://user:12345678@h")
    assert "12345678" not in f"{log!r} {log.where} {RedisOptions.read({'password': '12345678'})!r}"
    assert "h:6379" in repr(log)


def test_redis_py_is_needed_by_those_who_use_it_only() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_REDIS_PY],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines() == [
        "redis= needs the package 'redis', which is not installed: "
        'run pip install "tidings[redis]"'
    ], done.stderr


_WITHOUT_REDIS_PY = """
import importlib.util, sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "redis":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "redis" else find(name, *more)
sys.meta_path.insert(0, Hidden())
import tidings
from tidings.feed.redis import redis_log
try:
    redis_log({"port": 1})
except tidings.ConfigurationError as error:
    print(error)
"""
