"""Groups of private Redis servers: a master with a replica, sentinels, a cluster."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

import redis

from tests.support.databases import _binary, _directory, _started_as
from tests.support.redis import RedisServer, redis_server
from tests.support.server import free_port

SERVICE = "mymaster"
_PATIENCE = 30.0


def wait_for(is_true: Callable[[], object]) -> None:
    """Wait until it is; what a server that is not ready raises counts as not."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        with suppress(redis.RedisError):
            if is_true():
                return
        if time.monotonic() > deadline:
            raise TimeoutError("the Redis servers did not come to where they should be")
        time.sleep(0.02)


def information(server: RedisServer, section: str) -> str:
    """What INFO says."""
    client = redis.Redis("127.0.0.1", server.port, password=server.password, retry=None)
    try:
        return str(client.execute_command("INFO", section))
    finally:
        client.close()


def address(server: RedisServer) -> str:
    return f"127.0.0.1:{server.port}"


@contextmanager
def redis_pair() -> Iterator[tuple[RedisServer, RedisServer]]:
    """A master and a replica that has all its data."""
    with redis_server("--repl-diskless-sync-delay", "0") as master, redis_server() as replica:
        follow(replica, master)
        yield master, replica


def follow(replica: RedisServer, master: RedisServer) -> None:
    """Make it a replica, and wait until it is one."""
    replica.execute("REPLICAOF", "127.0.0.1", master.port)
    wait_for(lambda: "'master_link_status': 'up'" in information(replica, "replication"))


@dataclass
class Sentinels:
    """Sentinels that watch one pair of servers."""

    ports: Sequence[int]
    master: RedisServer
    replica: RedisServer

    @property
    def addresses(self) -> list[str]:
        return [f"127.0.0.1:{port}" for port in self.ports]

    def masters(self) -> set[int]:
        """The ports at which they say that the master is."""
        return {int(sentinel_says(port)[1]) for port in self.ports}


def sentinel_says(port: int) -> list[bytes]:
    client = redis.Redis("127.0.0.1", port, retry=None, socket_timeout=5)
    try:
        reply = client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        return list(reply or [b"", b"0"])
    finally:
        client.close()


@contextmanager
def redis_sentinels(count: int = 3) -> Iterator[Sentinels]:
    """A master, a replica, and sentinels that replace a master which is away for half a second."""
    with ExitStack() as stack:
        master, replica = stack.enter_context(redis_pair())
        ports = [stack.enter_context(_sentinel(master, count // 2 + 1)) for _ in range(count)]
        for port in ports:
            wait_for(lambda port=port: _knows(port, count - 1))  # type: ignore[misc]
        yield Sentinels(ports, master, replica)


def _knows(port: int, others: int) -> bool:
    client = redis.Redis("127.0.0.1", port, retry=None)
    try:
        state = client.sentinel_master(SERVICE)
        return state["num-other-sentinels"] == others and state["num-slaves"] == 1
    finally:
        client.close()


@contextmanager
def _sentinel(master: RedisServer, quorum: int) -> Iterator[int]:
    program = _binary("redis-server", "Redis", "redis-server", "redis")
    port = free_port()
    with _directory() as directory:
        configuration = directory / "sentinel.conf"
        configuration.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {directory}\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {master.port} {quorum}\n"
            f"sentinel down-after-milliseconds {SERVICE} 500\n"
            f"sentinel failover-timeout {SERVICE} 5000\n"
        )
        configuration.chmod(0o666)
        with (directory / "log").open("ab") as output:
            process = subprocess.Popen(
                [program, str(configuration), "--sentinel"],
                stdout=output,
                stderr=subprocess.STDOUT,
                **_started_as(directory),
            )
        try:
            wait_for(lambda: sentinel_says(port))
            yield port
        finally:
            process.kill()
            process.wait()


@contextmanager
def redis_cluster(masters: int = 3, replicas: int = 1) -> Iterator[list[RedisServer]]:
    """A cluster whose slots the first ``masters`` share; the others are replicas, in turn."""
    options = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000"]
    options += ["--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0"]
    with ExitStack() as stack:
        nodes = [stack.enter_context(redis_server(*options)) for _ in range(masters + replicas)]
        bounds = [16_384 * number // masters for number in range(masters + 1)]
        for number, node in enumerate(nodes[:masters]):
            node.execute("CLUSTER", "ADDSLOTSRANGE", bounds[number], bounds[number + 1] - 1)
        for number, node in enumerate(nodes):
            node.execute("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for node in nodes[1:]:
            nodes[0].execute("CLUSTER", "MEET", "127.0.0.1", node.port)
        wait_for(lambda: all(_known(node) == len(nodes) for node in nodes))
        for number, node in enumerate(nodes[masters:]):
            name = nodes[number % masters].execute("CLUSTER", "MYID")
            node.execute("CLUSTER", "REPLICATE", name)
        wait_for(
            lambda: (
                all("cluster_state:ok" in str(n.execute("CLUSTER", "INFO")) for n in nodes)
                and all(
                    "'master_link_status': 'up'" in information(n, "replication")
                    for n in nodes[masters:]
                )
            )
        )
        yield nodes


def _known(node: RedisServer) -> int:
    return str(node.execute("CLUSTER", "NODES")).count("connected")


def slot_of(key: str) -> int:
    """The slot of a key."""
    from redis.crc import key_slot

    return int(key_slot(key.encode()))
