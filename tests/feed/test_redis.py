"""RedisLog where Redis is restarted, emptied, cut off, frozen, full, or refuses."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py

from tests.feed.certificates import make_certificates
from tests.feed.conformance import (
    PATIENCE,
    all_of,
    append_until_trimmed,
    batch,
    follow_until,
    gap_of,
    is_contiguous,
    opened,
    texts,
)
from tests.support.redis import RedisServer, redis_server
from tests.support.server import REPOSITORY, free_port
from tidings import ConfigurationError
from tidings.feed import Batch, Cursor, Entry, FeedGap, FeedUnavailable, Log
from tidings.feed.redis import log as log_module
from tidings.feed.redis import redis_log

# Also where a test starts servers of its own, it is skipped where there is none.
pytestmark = pytest.mark.usefixtures("lasting_redis")


async def gap_after_trouble(log: Log, after: Cursor) -> FeedGap:
    """The gap that is told once the server is there again."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await gap_of(log, after)
            except FeedUnavailable:
                await asyncio.sleep(0.02)


async def follow_through(log: Log, after: Cursor, offset: int) -> list[Entry]:
    """As `follow_until`, but it begins again where the connection is lost."""
    found: list[Entry] = []
    async with asyncio.timeout(PATIENCE):
        while after.offset < offset:
            try:
                found += await log.follow(after, 500)
            except FeedUnavailable:
                await asyncio.sleep(0.02)
            after = Cursor(after.epoch, found[-1][0] if found else after.offset)
    return found


async def append_through(log: Log, *batches: Batch) -> None:
    """Append, again and again until it works."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await log.append(batches)
            except FeedUnavailable:
                await asyncio.sleep(0.02)


async def closed_down_to(server: RedisServer, number: int) -> None:
    """Wait until the server has seen connections end."""
    async with asyncio.timeout(PATIENCE):
        while server.clients != number:
            await asyncio.sleep(0.01)


# What it is asked to be


async def test_a_log_is_where_the_options_say() -> None:
    with redis_server(password="right") as server:
        log = redis_log({"host": "127.0.0.1", "port": server.port, "password": "right", "db": 3})
        async with opened(log):
            await log.append([batch("a")])
        assert server.execute("DBSIZE", db=0) == 0
        assert sorted(server.execute("KEYS", "*", db=3)) == [
            b"tidings:{feed}:entries",
            b"tidings:{feed}:seen",
            b"tidings:{feed}:state",
        ]


async def test_a_log_may_be_named_by_a_url() -> None:
    with redis_server(password="p@ss/word") as server:
        log = redis_log(f"redis://:p%40ss%2Fword@127.0.0.1:{server.port}/2?name=other")
        async with opened(log):
            await log.append([batch("a")])
        assert b"tidings:{other}:entries" in server.execute("KEYS", "*", db=2)


async def test_a_log_may_be_behind_a_unix_socket() -> None:
    with redis_server(password="x") as server:
        log = redis_log(f"unix://:x@{server.socket}?db=1")
        async with opened(log):
            start = await log.head()
            await log.append([batch("a")])
            assert texts(await follow_until(log, start, 1)) == ["a/0"]
            assert server.execute("DBSIZE", db=1) == 3


async def test_logs_of_other_names_are_other_logs(redis: RedisServer) -> None:
    one, two = redis_log(redis.redis(name="one")), redis_log(redis.redis(name="two"))
    async with opened(one, two):
        start = await two.head()
        await one.append([batch("a")])
        assert await two.head() == start != await one.head()


async def test_a_log_speaks_tls(tmp_path: Path) -> None:
    make_certificates(tmp_path)
    try:
        server = redis_server(password="x", tls=tmp_path)
        with server as running:
            trusting = redis_log(running.redis(ssl=True, ssl_ca_certs=str(tmp_path / "ca.pem")))
            async with opened(trusting):
                start = await trusting.head()
                await trusting.append([batch("a")])
                assert texts(await follow_until(trusting, start, 1)) == ["a/0"]
            with pytest.raises(ConfigurationError, match="certificate verify failed"):
                await redis_log(running.redis(ssl=True)).open()
    except RuntimeError as error:
        if "Bad directive" in str(error) or "tls-port" in str(error):
            pytest.skip("redis-server was built without TLS")
        raise


# What it refuses


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"password": "wrong-one"}, "WRONGPASS"),
        ({"username": "nobody", "password": "wrong-one"}, "WRONGPASS"),
        ({"password": None}, "NOAUTH"),
        ({"db": 99}, "DB index"),
    ],
)
async def test_a_log_that_the_server_refuses_is_a_mistake(
    options: dict[str, Any], message: str
) -> None:
    with redis_server(password="right-one") as server:
        log = redis_log(server.redis() | options)
        with pytest.raises(ConfigurationError, match=message) as caught:
            await log.open()
        assert f"redis://127.0.0.1:{server.port}/" in str(caught.value)
        assert "-one" not in f"{caught.value} {log!r} {log.where}"
        await closed_down_to(server, 0)


async def test_a_password_that_nobody_asks_for_is_a_mistake(redis: RedisServer) -> None:
    with pytest.raises(ConfigurationError, match="without any password configured"):
        await redis_log(redis.redis(password="x")).open()


async def test_a_user_without_rights_is_a_mistake(redis: RedisServer) -> None:
    redis.execute("ACL", "SETUSER", "weak", "on", ">pw", "~*", "+ping")
    with pytest.raises(ConfigurationError, match="NOPERM"):
        await redis_log(redis.redis(username="weak", password="pw")).open()


async def test_something_else_at_the_port_is_a_mistake() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ConfigurationError, match="Protocol Error"):
            await redis_log({"host": "127.0.0.1", "port": port}).open()


async def test_a_key_that_is_something_else_is_a_mistake(redis: RedisServer) -> None:
    redis.execute("SET", "tidings:{feed}:state", "something else")
    with pytest.raises(ConfigurationError, match="WRONGTYPE"):
        await redis_log(redis.redis()).open()


async def test_a_server_that_is_not_there_may_come_yet(redis: RedisServer) -> None:
    log = redis_log({"host": "127.0.0.1", "port": free_port()})
    with pytest.raises(FeedUnavailable, match="onnect"):
        await log.open()
    with pytest.raises(FeedUnavailable, match="onnect"):
        await log.append([batch("a")])
    await log.close()


# Another epoch


@pytest.mark.parametrize("persisted", [False, True], ids=["empty", "with its entries"])
async def test_a_restart_is_another_epoch(persisted: bool) -> None:
    options = ["--appendonly", "yes", "--appendfsync", "always"] if persisted else []
    with redis_server(*options) as server:
        log, other = redis_log(server.redis()), redis_log(server.redis())
        async with opened(log, other):
            start = await log.head()
            await log.append([batch("a", 5)])
            await follow_until(log, start, 5)
            server.restart()
            assert server.execute("EXISTS", "tidings:{feed}:entries") == persisted
            # Whoever comes first sees to it, also one that only writes.
            await append_through(other, batch("b"))
            gap = await gap_after_trouble(log, Cursor(start.epoch, 5))
            assert gap.reason == "epoch"
            assert gap.resume.epoch != start.epoch
            assert gap.resume == Cursor((await other.head()).epoch, 1)
            with pytest.raises(FeedGap):
                await other.between(start, 5, 10)


async def test_a_restart_is_noticed_without_the_right_to_info(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with redis_server("--appendonly", "yes", "--appendfsync", "always") as server:

        def let_in() -> None:
            server.execute("ACL", "SETUSER", "u", "on", ">pw", "~tidings:*", "+@all", "-info")

        let_in()
        log = redis_log(server.redis(username="u", password="pw"))
        with caplog.at_level(logging.WARNING, "tidings.feed"):
            async with opened(log):
                start = await log.head()
                await log.append([batch("a", 5)])
                await follow_until(log, start, 5)
                server.drop_connections()
                await append_through(log, batch("b"))
                entries = await follow_through(log, Cursor(start.epoch, 5), 6)
                assert texts(entries) == ["b/0"]
                server.kill()
                server.start()
                let_in()
                gap = await gap_after_trouble(log, Cursor(start.epoch, 6))
                assert gap.reason == "epoch"
        assert caplog.text.count("does not let this user have INFO") == 1


@pytest.mark.parametrize(
    "command",
    [
        ("FLUSHALL",),
        ("DEL", "tidings:{feed}:state"),
        ("DEL", "tidings:{feed}:entries"),
        ("HDEL", "tidings:{feed}:state", "epoch"),
        ("HSET", "tidings:{feed}:state", "offset", "3"),
    ],
    ids=" ".join,
)
async def test_a_log_that_is_emptied_is_another_epoch_for_those_who_wait(
    redis: RedisServer, command: tuple[str, ...]
) -> None:
    log = redis_log(redis.redis())
    async with opened(log):
        start = await log.head()
        await log.append([batch("a", 5)])
        after = Cursor(start.epoch, 5)
        reader = asyncio.ensure_future(gap_of(log, after))
        await asyncio.sleep(0.1)
        redis.execute(*command)
        gap = await reader
        assert gap.reason == "epoch"
        assert gap.resume == await log.head() == Cursor(gap.resume.epoch, 0)
        await log.append([batch("b")])
        assert texts(await follow_until(log, gap.resume, 1)) == ["b/0"]


async def test_an_emptied_log_that_grows_past_a_reader_is_still_another_epoch(
    redis: RedisServer,
) -> None:
    log, other = redis_log(redis.redis()), redis_log(redis.redis())
    async with opened(log, other):
        start = await log.head()
        await log.append([batch("a", 5)])
        after = Cursor(start.epoch, 5)
        await gap_of(log, Cursor("other", 5))  # the follower has just looked
        redis.execute("FLUSHALL")
        await other.append([batch("b", 20)])
        with pytest.raises(FeedGap) as caught:
            await log.follow(after, 10)
        assert caught.value.reason == "epoch"
        with pytest.raises(FeedGap) as caught:
            await log.between(after, 10, 10)
        assert caught.value.reason == "epoch"


async def test_deleted_entries_that_more_follow_are_a_gap(redis: RedisServer) -> None:
    log, other = redis_log(redis.redis()), redis_log(redis.redis())
    async with opened(log, other):
        start = await log.head()
        await log.append([batch("a", 5)])
        redis.execute("DEL", "tidings:{feed}:entries")
        await other.append([batch("b")])
        assert (await gap_of(log, Cursor(start.epoch, 2))).resume.offset == 6


# Trimming


async def test_entries_are_trimmed_by_age(redis: RedisServer) -> None:
    log = redis_log(redis.redis(max_age=1))
    async with opened(log):
        start = await log.head()
        await log.append([batch("a", 250)])
        await append_until_trimmed(log, start)
        gap = await gap_of(log, start)
        assert gap.reason == "window"
        assert gap.resume == await log.head()
        # Without anything appended as well: they hold what is nobody's business any more.
        async with asyncio.timeout(PATIENCE):
            while redis.execute("XLEN", "tidings:{feed}:entries"):
                assert await log.head() == gap.resume
                await asyncio.sleep(0.1)
        assert await log.follow(gap.resume, 10) == []
        assert (await gap_of(log, Cursor(start.epoch, gap.resume.offset - 1))).reason == "window"
    # With an age that no machine is too slow for.
    log = redis_log(redis.redis(max_age=3600))
    async with opened(log):
        await log.append([batch("b")])
        entries = await follow_until(log, gap.resume, gap.resume.offset + 1)
        assert texts(entries) == ["b/0"]


async def test_trimming_by_age_keeps_what_is_young(redis: RedisServer) -> None:
    log = redis_log(redis.redis(max_age=100))
    async with opened(log):
        start = await log.head()
        seconds = int(redis.execute("TIME")[0])
        # 300 entries, one per second, as if they had been appended in time.
        for offset in range(1, 301):
            place = f"{offset}-{seconds - 300 + offset}"
            redis.execute("XADD", "tidings:{feed}:entries", place, start.epoch, str(offset))
        redis.execute("HSET", "tidings:{feed}:state", "offset", 300, "trim", 0)
        await log.append([batch("a")])
        passed = int(redis.execute("TIME")[0]) - seconds
        entries = await all_of(log, Cursor(start.epoch, 210 + passed), 301)
        assert is_contiguous(entries, 211 + passed)
        [(first, _), *_] = redis.execute("XRANGE", "tidings:{feed}:entries", "-", "+", "COUNT", 1)
        assert 199 <= int(first.partition(b"-")[0]) <= 203 + passed


async def test_the_keys_of_batches_are_bounded(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "_SEEN_MOST", 50)
    log = redis_log(redis.redis())
    async with opened(log):
        for number in range(0, 200, 10):
            await log.append([batch(f"b{one}") for one in range(number, number + 10)])
        assert redis.execute("ZCARD", "tidings:{feed}:seen") == 50


# Trouble on the way


async def test_connections_that_are_cut_off_lose_and_double_nothing(redis: RedisServer) -> None:
    log = redis_log(redis.redis())
    async with opened(log):
        start = await log.head()
        reader = asyncio.ensure_future(follow_through(log, start, 300))
        for number in range(100):
            if number % 5 == 0:
                redis.drop_connections()
            await append_through(log, batch(f"b{number}", 3))
        entries = await reader
        assert is_contiguous(entries, 1)
        expected = [entry for n in range(100) for entry in batch(f"b{n}", 3).entries]
        assert [entry for _, entry in entries] == expected


async def test_a_writer_does_not_notice_that_its_connection_was_cut_off(
    redis: RedisServer,
) -> None:
    log = redis_log(redis.redis())
    async with opened(log):
        redis.drop_connections()
        await asyncio.sleep(0.1)
        await log.append([batch("a")])


async def test_a_server_that_hangs_is_noticed(own_redis: RedisServer) -> None:
    log = redis_log(own_redis.redis())
    async with opened(log):
        start = await log.head()
        await log.append([batch("a")])
        await follow_until(log, start, 1)
        after = Cursor(start.epoch, 1)
        own_redis.freeze()
        try:
            async with asyncio.timeout(PATIENCE):
                done = await asyncio.gather(
                    log.append([batch("b")]), log.follow(after, 10), return_exceptions=True
                )
            assert [type(one) for one in done] == [FeedUnavailable, FeedUnavailable]
            assert "no answer" in str(done[0])
        finally:
            own_redis.thaw()
        await append_through(log, batch("b"))
        assert texts(await follow_through(log, after, 2)) == ["b/0"]


async def test_a_small_output_buffer_does_not_stop_a_reader(own_redis: RedisServer) -> None:
    own_redis.execute("CONFIG", "SET", "client-output-buffer-limit", "normal 64kb 0 0")
    log = redis_log(own_redis.redis())
    async with opened(log):
        start = await log.head()
        await log.append([Batch("a", [b"x" * 1000] * 400)])
        assert is_contiguous(await follow_through(log, start, 400), 1)
        await log.append([Batch("too large", [b"x" * 200_000])])
        await append_through(log, batch("b"))
        gap = await gap_after_trouble(log, Cursor(start.epoch, 400))
        assert gap.resume == Cursor(start.epoch, 402)
        assert gap.reason == "window"
        await append_through(log, batch("c"))
        assert texts(await follow_through(log, gap.resume, 403)) == ["c/0"]


async def test_a_script_that_the_server_has_forgotten_is_given_again(redis: RedisServer) -> None:
    log = redis_log(redis.redis())
    async with opened(log):
        start = await log.head()
        for number in range(3):
            redis.execute("SCRIPT", "FLUSH")
            await log.append([batch(f"b{number}")])
        assert await log.head() == Cursor(start.epoch, 3)


async def test_a_log_without_rights_to_append_says_so(redis: RedisServer) -> None:
    redis.execute("ACL", "SETUSER", "reader", "on", ">pw", "~*", "+@all", "-xadd")
    log = redis_log(redis.redis(username="reader", password="pw"))
    async with opened(log):
        with pytest.raises(FeedUnavailable, match=r"can't run this|permission"):
            await log.append([batch("a")])


def replica(server: RedisServer) -> None:
    server.execute("CONFIG", "SET", "repl-timeout", "1")
    server.execute("REPLICAOF", "127.0.0.1", free_port())


def stale_replica(server: RedisServer) -> None:
    server.execute("CONFIG", "SET", "replica-serve-stale-data", "no")
    replica(server)


def full(server: RedisServer) -> None:
    server.execute("CONFIG", "SET", "maxmemory", "1mb", "maxmemory-policy", "noeviction")


def master(server: RedisServer) -> None:
    server.execute("REPLICAOF", "NO", "ONE")


def roomy(server: RedisServer) -> None:
    server.execute("CONFIG", "SET", "maxmemory", "0")


@pytest.mark.parametrize(
    ("hurt", "heal", "message", "is_promoted"),
    [
        (replica, master, "READONLY", True),
        (stale_replica, master, "MASTERDOWN", True),
        (full, roomy, "OOM", False),
    ],
)
async def test_a_server_that_cannot_write_is_waited_for(
    own_redis: RedisServer,
    hurt: Callable[[RedisServer], None],
    heal: Callable[[RedisServer], None],
    message: str,
    is_promoted: bool,
) -> None:
    log = redis_log(own_redis.redis())
    async with opened(log):
        start = await log.head()
        await log.append([batch("a")])
        hurt(own_redis)
        with pytest.raises(FeedUnavailable, match=message):
            await log.append([batch("b")])
        heal(own_redis)
        await append_through(log, batch("b"))
        if is_promoted:  # it may have missed what another master was told meanwhile
            gap = await gap_after_trouble(log, Cursor(start.epoch, 1))
            assert gap.reason == "epoch"
            start, expected = Cursor(gap.resume.epoch, 0), ["b/0"]
        else:
            expected = ["a/0", "b/0"]
        assert texts(await follow_through(log, start, len(expected))) == expected


async def test_a_busy_server_is_waited_for(own_redis: RedisServer) -> None:
    own_redis.execute("CONFIG", "SET", "busy-reply-threshold", "10")
    log = redis_log(own_redis.redis())

    def keep_busy() -> None:
        with pytest.raises(redis_py.ResponseError):
            own_redis.execute("EVAL", "while true do end", 0)

    async with opened(log):
        busy = threading.Thread(target=keep_busy)
        busy.start()
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(FeedUnavailable, match="BUSY"):
                while True:
                    await log.head()
        own_redis.execute("SCRIPT", "KILL")
        busy.join()
        await append_through(log, batch("a"))


async def test_a_closed_log_has_no_connections(redis: RedisServer) -> None:
    log = redis_log(redis.redis())
    await closed_down_to(redis, 0)
    async with opened(log):
        await log.follow(await log.head(), 1)
        assert redis.clients == 2
    await closed_down_to(redis, 0)
    with pytest.raises(FeedUnavailable, match="closed"):
        await log.append([batch("a")])


async def test_a_log_that_is_closed_while_it_connects_leaves_nothing(redis: RedisServer) -> None:
    for steps in range(40):
        log = redis_log(redis.redis())
        tasks = [
            asyncio.ensure_future(log.head()),
            asyncio.ensure_future(log.follow(Cursor("e", 0), 1)),
        ]
        for _ in range(steps):
            await asyncio.sleep(0)
        await log.close()
        async with asyncio.timeout(PATIENCE):
            results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(one, Cursor | FeedUnavailable | FeedGap) for one in results), results
    await closed_down_to(redis, 0)


async def test_those_who_wait_for_a_server_that_hangs_do_not_wait_for_each_other(
    own_redis: RedisServer,
) -> None:
    log = redis_log(own_redis.redis())
    async with opened(log):
        own_redis.freeze()
        try:
            async with asyncio.timeout(PATIENCE):
                done = await asyncio.gather(
                    *(log.append([batch(f"b{number}")]) for number in range(50)),
                    return_exceptions=True,
                )
            assert {type(one) for one in done} == {FeedUnavailable}
        finally:
            own_redis.thaw()


# Rights


async def test_the_rights_that_the_documentation_lists_are_enough(redis: RedisServer) -> None:
    page = (REPOSITORY / "docs" / "redis.md").read_text()
    [rule] = re.findall(r"^ACL SETUSER tidings on >(?:.|\\\n)+?$(?<!\\)", page, re.MULTILINE)
    redis.execute(*rule.replace("\\\n", " ").split())
    redis.execute("ACL", "LOG", "RESET")
    log = redis_log(redis.redis(username="tidings", password="a-long-password", max_age=1))
    async with opened(log):
        start = await log.head()
        await log.append([batch("a", 250)])
        assert len(await follow_until(log, start, 250)) == 250
        await append_until_trimmed(log, start)
        redis.execute("SCRIPT", "FLUSH")
        redis.execute("FLUSHALL")
        assert (await gap_of(log, start)).reason == "epoch"
        assert redis.execute("ACL", "LOG") == []


# Cluster


async def test_a_cluster_is_asked_where_the_entries_are() -> None:
    options = ["--cluster-enabled", "yes", "--cluster-require-full-coverage", "no"]
    with redis_server(*options) as one, redis_server(*options) as two:
        log = redis_log(one.redis())
        with pytest.raises(FeedUnavailable, match="CLUSTERDOWN"):
            await log.open()
        one.execute("CLUSTER", "ADDSLOTSRANGE", 0, 8191)
        two.execute("CLUSTER", "ADDSLOTSRANGE", 8192, 16383)
        one.execute("CLUSTER", "MEET", "127.0.0.1", two.port)
        logs = [redis_log(server.redis(name=name)) for server in (one, two) for name in "abcd"]
        async with asyncio.timeout(PATIENCE):
            while b"cluster_known_nodes:2" not in state_of(one) + state_of(two):
                await asyncio.sleep(0.05)
            for log in logs:
                await open_through(log)
        async with opened(*logs):
            for log in logs:
                await log.append([batch("a")])
            for log in logs:
                head = await log.head()
                assert head.offset == 1
                assert texts(await follow_until(log, Cursor(head.epoch, 0), 1)) == ["a/0"]
        assert one.execute("DBSIZE")
        assert two.execute("DBSIZE")


def state_of(server: RedisServer) -> bytes:
    return str(server.execute("CLUSTER", "INFO")).encode()


async def open_through(log: Log) -> None:
    while True:
        try:
            return await log.open()
        except FeedUnavailable:
            await asyncio.sleep(0.05)
