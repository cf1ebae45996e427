"""Published keys are fetched when needed, kept, shared, and never trusted beyond their purpose."""

from __future__ import annotations

import asyncio
import json
import logging
import threading

import jwt
import pytest

from tidings.auth import JwksClient, TokenVerifier
from tidings.errors import KeysUnavailable, RequestError

pytestmark = pytest.mark.anyio


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def client(jwks_server, clock) -> JwksClient:
    return JwksClient(jwks_server.url, clock=clock)


def encode(key, algorithm="RS256", **headers) -> str:
    return jwt.encode({"sub": "7"}, key, algorithm, headers=headers)


async def code_of(verifying) -> str:
    with pytest.raises(RequestError) as caught:
        await verifying
    return caught.value.code


async def fetched() -> None:
    """Wait for the fetch that goes on while keys are used."""
    await asyncio.gather(*(one for one in asyncio.all_tasks() if one.get_name() == "tidings-jwks"))


async def test_verify_with_published_keys_of_each_type(keys, jwks_server):
    jwks_server.serve(
        keys.jwk(keys.rsa, kid="r", use="sig", alg="RS256"),
        keys.jwk(keys.ec, kid="e", key_ops=["verify"]),
        keys.jwk(keys.ed, kid="d"),
    )
    verifier = TokenVerifier(jwks_url=jwks_server.url)
    assert jwks_server.hits == 0
    for key, algorithm, kid in (
        (keys.rsa, "RS256", "r"),
        (keys.ec, "ES256", "e"),
        (keys.ed, "EdDSA", "d"),
    ):
        identity = await verifier.verify(encode(key, algorithm, kid=kid))
        assert identity.user_id == "7"
    assert jwks_server.hits == 1
    assert await code_of(verifier.verify(encode(keys.rsa_2, kid="r"))) == "INVALID_TOKEN"
    assert await code_of(verifier.verify(encode(keys.rsa, kid=5 * "r"))) == "INVALID_TOKEN"


async def test_a_jwk_with_alg_verifies_only_that(keys, jwks_server):
    jwks_server.serve(keys.jwk(keys.rsa, kid="r", alg="RS256"))
    verifier = TokenVerifier(jwks_url=jwks_server.url)
    token = encode(keys.rsa, "PS256", kid="r")
    assert await code_of(verifier.verify(token)) == "TOKEN_ALGORITHM"


async def test_a_jwk_without_alg_verifies_what_fits_it_and_is_configured(keys, jwks_server):
    jwks_server.serve(keys.jwk(keys.rsa, kid="r"))
    verifier = TokenVerifier(jwks_url=jwks_server.url, algorithms=["RS512", "ES256"])
    assert await verifier.verify(encode(keys.rsa, "RS512", kid="r"))
    for key, algorithm in ((keys.rsa, "RS256"), (keys.ec, "ES256")):
        token = encode(key, algorithm, kid="r")
        assert await code_of(verifier.verify(token)) == "TOKEN_ALGORITHM"


async def test_keys_of_different_types_may_share_an_id(keys, jwks_server):
    jwks_server.serve(keys.jwk(keys.rsa, kid="k"), keys.jwk(keys.ec, kid="k"))
    verifier = TokenVerifier(jwks_url=jwks_server.url)
    assert await verifier.verify(encode(keys.rsa, kid="k"))
    assert await verifier.verify(encode(keys.ec, "ES256", kid="k"))


async def test_keys_that_must_not_verify_are_ignored(keys, jwks_server, client):
    secret = {"kty": "oct", "k": "eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHg", "kid": "oct"}
    private = jwt.get_algorithm_by_name("ES256").to_jwk(keys.ec, as_dict=True)
    jwks_server.serve(
        secret,
        secret | {"kid": "oct-hs", "alg": "HS256"},
        keys.jwk(keys.rsa, kid="enc", use="enc"),
        keys.jwk(keys.rsa, kid="ops", key_ops=["encrypt"]),
        keys.jwk(keys.rsa, kid="oaep", alg="RSA-OAEP"),
        keys.jwk(keys.rsa, kid="hs", alg="HS256"),
        keys.jwk(keys.rsa, kid="none", alg="none"),
        keys.jwk(keys.rsa_weak, kid="weak"),
        keys.jwk(keys.rsa, kid="list", alg=["RS256"]),
        keys.jwk(keys.rsa, kid="es", alg="ES256"),
        private | {"kid": "private"},
        keys.jwk(keys.rsa, kid="broken") | {"n": 5},
        keys.jwk(keys.ec, kid="off-curve") | {"x": "A" * 43},
        keys.jwk(keys.ec, kid="null") | {"x": None},
        *(None, 5, "x", [], {}, {"kty": ["RSA"]}, {"kty": "RSA"}, {"kty": "new"}),
        keys.jwk(keys.rsa, kid="good"),
    )
    assert [key.kid for key in await client.find("good")] == ["good"]
    assert [key.kid for key in await client.find(None)] == ["good"]


async def test_a_symmetric_published_key_does_not_let_its_readers_sign(jwks_server):
    jwks_server.serve({"kty": "oct", "k": "eHh4" * 11, "kid": "k", "alg": "HS256"})
    verifier = TokenVerifier(jwks_url=jwks_server.url)
    forged = jwt.encode({"sub": "1"}, b"xxx" * 11, "HS256", headers={"kid": "k"})
    assert await code_of(verifier.verify(forged)) == "TOKEN_ALGORITHM"
    assert jwks_server.hits == 0


async def test_a_token_without_kid_needs_a_single_key(keys, jwks_server):
    jwks_server.serve(keys.jwk(keys.rsa, kid="a"), keys.jwk(keys.rsa_2, use="enc"))
    assert await TokenVerifier(jwks_url=jwks_server.url).verify(encode(keys.rsa))
    jwks_server.serve(keys.jwk(keys.rsa, kid="a"), keys.jwk(keys.rsa_2, kid="b"))
    verifier = TokenVerifier(jwks_url=jwks_server.url)
    assert await code_of(verifier.verify(encode(keys.rsa))) == "INVALID_TOKEN"
    assert await verifier.verify(encode(keys.rsa, kid="a"))


async def test_keys_are_fetched_again_after_max_age(keys, jwks_server, client, clock):
    jwks_server.serve(keys.jwk(keys.rsa, kid="old"))
    assert await client.find("old")
    clock.now += 599
    assert await client.find("old")
    assert jwks_server.hits == 1
    jwks_server.serve(keys.jwk(keys.rsa_2, kid="new"))
    clock.now += 1
    assert await client.find("old"), "it is used while the new ones are fetched"
    await fetched()
    assert not await client.find("old")
    assert jwks_server.hits == 3
    assert await client.find("new")


async def test_whoever_has_a_key_does_not_wait_for_a_fetch(keys, jwks_server, client, clock):
    jwks_server.serve(keys.jwk(keys.rsa, kid="1"))
    assert await client.find("1")
    jwks_server.gate.clear()
    clock.now += 600
    for _ in range(3):
        assert await client.find("1")
    await next_request(jwks_server)
    jwks_server.gate.set()
    await fetched()
    assert jwks_server.hits == 2


async def test_keys_verify_nothing_when_they_are_too_old(keys, jwks_server, client, clock):
    jwks_server.serve(keys.jwk(keys.rsa, kid="1"))
    assert await client.find("1")
    jwks_server.status = 500
    clock.now += 24 * 3600 - 1
    assert await client.find("1")
    await fetched()
    clock.now += 1
    with pytest.raises(KeysUnavailable):
        await client.find("1")
    jwks_server.status = 200
    clock.now += 30
    assert await client.find("1")


async def test_an_unknown_kid_fetches_once_per_cooldown(keys, jwks_server, client, clock):
    jwks_server.serve(keys.jwk(keys.rsa, kid="old"))
    assert await client.find("old")
    jwks_server.serve(keys.jwk(keys.rsa, kid="old"), keys.jwk(keys.rsa_2, kid="new"))
    assert await client.find("new")
    assert jwks_server.hits == 2
    for kid in ("x", "y", "z"):
        assert not await client.find(kid)
    assert jwks_server.hits == 2
    clock.now += 29.9
    assert not await client.find("x")
    assert jwks_server.hits == 2
    clock.now += 0.2
    assert not await client.find("x")
    assert not await client.find("y")
    assert jwks_server.hits == 3


async def test_verify_follows_a_rotation(keys, jwks_server):
    jwks_server.serve(keys.jwk(keys.rsa, kid="1"))
    verifier = TokenVerifier(jwks_url=jwks_server.url)
    assert await verifier.verify(encode(keys.rsa, kid="1"))
    jwks_server.serve(keys.jwk(keys.rsa_2, kid="2"))
    assert await verifier.verify(encode(keys.rsa_2, kid="2"))
    assert await code_of(verifier.verify(encode(keys.rsa, kid="1"))) == "INVALID_TOKEN"


async def next_request(server) -> None:
    assert await asyncio.to_thread(server.arrived.acquire, timeout=5)


async def test_many_verifications_share_one_fetch(keys, jwks_server, client):
    jwks_server.serve(keys.jwk(keys.rsa, kid="1"))
    jwks_server.gate.clear()
    first = [asyncio.create_task(client.find("1")) for _ in range(50)]
    await next_request(jwks_server)
    jwks_server.gate.set()
    assert all(await asyncio.gather(*first))
    assert jwks_server.hits == 1

    jwks_server.serve(keys.jwk(keys.rsa_2, kid="2"))
    jwks_server.gate.clear()
    rotated = [asyncio.create_task(client.find("2")) for _ in range(50)]
    await next_request(jwks_server)
    rotated += [asyncio.create_task(client.find("2")) for _ in range(50)]
    await asyncio.sleep(0)
    jwks_server.gate.set()
    assert all(await asyncio.gather(*rotated))
    assert jwks_server.hits == 2


async def test_a_cancelled_verification_leaves_the_fetch_to_the_others(keys, jwks_server, client):
    jwks_server.serve(keys.jwk(keys.rsa, kid="1"))
    jwks_server.gate.clear()
    first, second = (asyncio.create_task(client.find("1")) for _ in range(2))
    await next_request(jwks_server)
    first.cancel()
    jwks_server.gate.set()
    assert await second
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_a_fetch_does_not_block_the_event_loop(keys, jwks_server, client):
    jwks_server.serve(keys.jwk(keys.rsa, kid="1"))
    jwks_server.gate.clear()
    # Only a running event loop opens the gate.
    asyncio.get_running_loop().call_later(0.05, jwks_server.gate.set)
    assert await client.find("1")


def break_status(server) -> None:
    server.status = 500


def break_redirect(server) -> None:
    server.status = 302
    server.headers = {"Location": server.url}


def break_json(server) -> None:
    server.body = b"<html>"


def break_shape(server) -> None:
    server.body = json.dumps({"keys": {}}).encode()


def break_top(server) -> None:
    server.body = b"[]"


def break_depth(server) -> None:
    server.body = b'{"keys":' + b"[" * 100_000


def break_size(server) -> None:
    server.body = b'{"keys": [' + b" " * 1024 * 1024 + b"]}"


def break_truncated(server) -> None:
    server.body = server.body[:-5]


FAULTS = [
    break_status,
    break_redirect,
    break_json,
    break_shape,
    break_top,
    break_depth,
    break_size,
    break_truncated,
    lambda server: server.stop(),
]


@pytest.mark.parametrize("fault", FAULTS)
async def test_old_keys_stay_in_use_when_a_fetch_fails(
    fault, keys, jwks_server, client, clock, caplog
):
    jwks_server.serve(keys.jwk(keys.rsa, kid="1"))
    assert await client.find("1")
    fault(jwks_server)
    clock.now += 601
    assert await client.find("1")
    await fetched()
    assert [(r.levelno, r.name) for r in caplog.records] == [(logging.WARNING, "tidings.auth")]
    assert await client.find("1")
    assert len(caplog.records) == 1
    clock.now += 31
    assert await client.find("1")
    await fetched()
    assert len(caplog.records) == 2


@pytest.mark.parametrize("fault", FAULTS)
async def test_verify_is_refused_while_there_never_were_keys(fault, keys, jwks_server):
    jwks_server.serve(keys.jwk(keys.rsa, kid="1"))
    fault(jwks_server)
    verifier = TokenVerifier(jwks_url=jwks_server.url)
    with pytest.raises(KeysUnavailable, match="cannot be verified at present") as caught:
        await verifier.verify(encode(keys.rsa, kid="1"))
    assert caught.value.code == "KEYS_UNAVAILABLE"


async def test_a_failed_first_fetch_is_tried_again_after_a_second(keys, jwks_server, client, clock):
    jwks_server.status = 503
    for _ in range(3):
        assert await code_of(client.find("1")) == "KEYS_UNAVAILABLE"
    assert jwks_server.hits == 1
    jwks_server.status = 200
    jwks_server.serve(keys.jwk(keys.rsa, kid="1"))
    clock.now += 1
    assert await client.find("1")


async def test_an_emptied_document_takes_all_keys_away(keys, jwks_server, client, clock, caplog):
    jwks_server.serve(keys.jwk(keys.rsa, kid="1"))
    assert await client.find("1")
    jwks_server.serve()
    clock.now += 601
    assert await client.find("1")
    await fetched()
    assert await client.find("1") == ()
    assert "no usable key" in caplog.text


@pytest.mark.parametrize("drip", [None, 0.02])
async def test_a_fetch_ends_at_its_timeout(drip, keys, jwks_server, clock):
    jwks_server.serve(keys.jwk(keys.rsa, kid="1"))
    client = JwksClient(jwks_server.url, timeout=0.1, clock=clock)
    if drip is None:
        jwks_server.gate.clear()
    jwks_server.drip = drip
    async with asyncio.timeout(3):
        assert await code_of(client.find("1")) == "KEYS_UNAVAILABLE"


STALLS = {
    "a drop now and then of headers": (b"HTTP/1.1 200 OK\r\n", b"X-A: 1\r\n"),
    "a drop of a header": (b"HTTP/1.1 200 OK\r\nX: ", b"x"),
    "a status line without end": (b"HTTP/1.1 200 ", b"O"),
    "continue without end": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "a body without end": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
}


@pytest.mark.parametrize("stall", STALLS)
async def test_a_fetch_ends_whatever_the_server_does(stall, clock):
    """The time-out of a socket begins anew with each byte."""
    first, drop = STALLS[stall]
    closed = asyncio.Event()

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        try:
            while not reader.at_eof():
                writer.write(drop)
                await writer.drain()
                await asyncio.sleep(0.01)
        except ConnectionError:
            pass
        writer.close()
        closed.set()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        client = JwksClient(f"http://127.0.0.1:{port}/", timeout=0.2, clock=clock)
        async with asyncio.timeout(30):
            assert await code_of(client.find("1")) == "KEYS_UNAVAILABLE"
            await closed.wait()
            while any(one.name == "tidings-download" for one in threading.enumerate()):
                await asyncio.sleep(0.01)


async def test_a_client_outlives_the_event_loop_it_was_first_used_on(keys, jwks_server, client):
    jwks_server.serve(keys.jwk(keys.rsa, kid="1"))
    found = []
    for kid in ("1", "2"):
        thread = threading.Thread(target=lambda k=kid: found.append(asyncio.run(client.find(k))))
        thread.start()
        await asyncio.to_thread(thread.join)
    assert [len(keys_) for keys_ in found] == [1, 0]
    assert jwks_server.hits == 2


def test_repr_hides_the_query():
    shown = repr(JwksClient("https://id.example/jwks?key=hidden#x"))
    assert shown == "JwksClient('https://id.example/jwks')"


async def test_the_warning_hides_the_query(jwks_server, caplog):
    jwks_server.status = 404
    client = JwksClient(jwks_server.url + "?key=hidden")
    assert await code_of(client.find("1")) == "KEYS_UNAVAILABLE"
    assert "404" in caplog.text
    assert "hidden" not in caplog.text
