"""Checklist a2: who may connect, and what a connection is."""

from __future__ import annotations

import base64
import json
import re
import time

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.guide.conftest import Connect
from tests.guide.kit import ADMIN, SECRET, Rest, Socket, token, unique
from tests.support.node import NodeClient, NodeClientError, SubscriptionRefused

pytestmark = pytest.mark.anyio


def unsigned(**claims: object) -> str:
    """A token of the algorithm "none", which PyJWT itself does not make with a claim set."""

    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    return f"{part({'alg': 'none', 'typ': 'JWT'})}.{part(claims)}."


def rs256() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return jwt.encode({"sub": "u1"}, key, algorithm="RS256")


async def refusal(node: NodeClient, **options: object) -> str:
    """The message of the ``connect_error`` that connecting gives; nothing else may come."""
    name = unique("refused")
    with pytest.raises(NodeClientError):
        await node.connect(socket=name, **options)
    [event] = await node.events(socket=name)
    assert event.event == "connect_error"
    await node.disconnect(socket=name)
    message: str = event.args[0]
    return message


def shown(auth: object) -> str:
    """Names a test after its payload, the same in every process that collects it."""
    return repr(auth).replace(ADMIN, "ADMIN")


@pytest.mark.parametrize(
    "auth", [None, {}, {"token": None}, {"token": ""}, {"jwt": ADMIN}], ids=shown
)
async def test_a2_12_no_token_is_refused(every_node, auth):
    assert await refusal(every_node, auth=auth) == "Authentication required"


@pytest.mark.parametrize("auth", ["", [], 5, [ADMIN], ADMIN], ids=shown)
async def test_a2_12_an_auth_payload_that_is_no_object_is_refused(node, auth):
    # A string cannot be sent by socket.io-client at all; the server sees no token then.
    assert await refusal(node, auth=auth) in ("Authentication required", "server error")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("nonsense", "Invalid authentication token"),
        ("a.b.c", "Invalid authentication token"),
        ({"token": ADMIN}, "Invalid authentication token"),
        ([ADMIN], "Invalid authentication token"),
        (7, "Invalid authentication token"),
        (True, "Invalid authentication token"),
        (jwt.encode({"sub": "u1"}, "x" * 40), "Invalid authentication token"),
        (ADMIN[:-4] + "AAAA", "Invalid authentication token"),
        (token(exp=time.time() - 60), "Token expired"),
        (token(sub=None), "Invalid authentication token"),
    ],
    ids=[
        "nonsense",
        "three parts",
        "object",
        "array",
        "number",
        "boolean",
        "wrong secret",
        "tampered",
        "expired",
        "nobody",
    ],
)
async def test_a2_13_a_bad_token_is_refused_with_a_fixed_message(every_node, given, message):
    assert await refusal(every_node, auth={"token": given}) == message


async def test_a2_14_only_the_handshake_s_auth_payload_counts(every_node):
    header = {"extraHeaders": {"Authorization": f"Bearer {ADMIN}"}}
    assert await refusal(every_node, options=header) == "Authentication required"
    query = {"query": {"token": ADMIN, "auth": json.dumps({"token": ADMIN})}}
    assert await refusal(every_node, options=query) == "Authentication required"
    both = header | query
    assert await refusal(every_node, auth={"token": "x"}, options=both) == (
        "Invalid authentication token"
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (unsigned(sub="u1", roles=["admin"]), "Token algorithm not allowed"),
        (unsigned(sub="u1", exp=time.time() + 7200), "Token algorithm not allowed"),
        (jwt.encode({"sub": "u1"}, SECRET * 2, algorithm="HS512"), "Token algorithm not allowed"),
        (rs256(), "Token algorithm not allowed"),
        (token(aud="another-app"), "Token has the wrong audience"),
        (token(nbf=time.time() + 7200), "Token not yet valid"),
    ],
    ids=["none", "none with exp", "HS512", "RS256", "audience", "not before"],
)
async def test_a2_15_algorithm_tricks_and_wrong_claims_are_refused(node, rest, given, message):
    assert await refusal(node, auth={"token": given}) == message
    assert (await rest.send("GET", "posts", auth=given)).status_code == 401


async def test_a2_16_a_socket_is_who_the_same_token_is_over_http(connect: Connect, rest: Rest):
    workspace, user = unique("w"), unique("u")
    given = token(user, roles=("admin",), workspace_id=workspace)
    socket = await connect(given)
    assert (await rest.send("GET", "secret-documents", auth=given)).status_code == 200
    await socket.subscribe("secret-documents")
    # The claim that HTTP fills in for a new project is the one the socket is limited to.
    projects = await socket.subscribe("projects")
    project = await rest.create("projects", auth=given)
    assert (await rest.get("projects", project))["workspace_id"] == workspace
    [told] = await socket.updates(projects, 1)
    assert told["id"] == project

    plain = token(user, workspace_id=workspace)
    assert (await rest.send("GET", "secret-documents", auth=plain)).status_code == 403
    with pytest.raises(SubscriptionRefused, match="PERMISSION_DENIED"):
        await (await connect(plain)).subscribe("secret-documents")


async def test_a2_16_a_number_as_subject_is_the_same_user_over_both(connect: Connect, rest: Rest):
    given = jwt.encode({"sub": 4711, "exp": time.time() + 7200}, SECRET)
    socket = await connect(given)
    orders = await socket.subscribe("orders")
    order = await rest.create("orders", auth=given)
    assert (await rest.get("orders", order, auth=given))["customer_id"] == "4711"
    [told] = await socket.updates(orders, 1)
    assert told["id"] == order


async def test_a2_18_the_first_event_is_connected_with_id_time_and_cursor(connect_by: Connect):
    socket = await connect_by()
    [connected] = await socket.wait("connected")
    assert set(connected.data) == {"socketId", "serverTime", "cursor"}
    status = await socket.node.status(socket=socket.name)
    assert connected.data["socketId"] == status["id"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", connected.data["serverTime"])
    assert re.fullmatch(r"[a-z0-9]+\.\d+", connected.data["cursor"])
    assert [event.event for event in await socket.events()] == ["connect", "connected"]


async def test_a2_18_a_polling_client_is_upgraded_to_websocket(connect: Connect, rest: Rest):
    socket = await connect()
    author = unique("author")
    posts = await socket.subscribe("posts", filters={"author_id": author})
    assert await socket.node.transport(until="websocket", socket=socket.name) == "websocket"
    await rest.create("posts", title="after the upgrade", author_id=author)
    await socket.updates(posts, 1)


async def test_a2_19_each_socket_has_its_own_subscriptions(connect_by: Connect, rest: Rest):
    one, other = await connect_by(), await connect_by()
    author = unique("author")
    first = await one.subscribe("posts", filters={"author_id": author})
    second = await other.subscribe("posts", filters={"author_id": author}, subscriptionId="mine")
    answer = await other.ask("unsubscribe", {"subscriptionId": first["subscriptionId"]})
    assert answer["error"]["code"] == "SUBSCRIPTION_NOT_FOUND"
    await one.node.disconnect(socket=one.name)
    post = await rest.create("posts", title="x", author_id=author)
    [told] = await other.updates(second, 1)
    assert told["id"] == post
    assert await one.told(first) == []


async def test_a2_19_a_disconnect_frees_the_subscriptions(connect: Connect):
    for _ in range(5):
        socket = await connect()
        for number in range(100):
            await socket.say("subscribe", {"resource": "posts", "subscriptionId": str(number)})
        await socket.wait("subscription.created", count=100)
        await socket.node.disconnect(socket=socket.name)


@pytest.mark.parametrize("polite", [False, True], ids=["network failure", "transport closed"])
async def test_a2_20_a_reconnected_client_starts_with_no_subscriptions(
    connect_by: Connect, rest: Rest, polite: bool
):
    socket = await connect_by(auto_restore=False)
    author = unique("author")
    posts = await socket.subscribe("posts", filters={"author_id": author})
    before = (await socket.wait("connected"))[0].data["socketId"]
    await socket.node.drop(hold=True, polite=polite, socket=socket.name)
    await socket.node.reconnect(socket=socket.name)  # presents its token again
    connected = await socket.wait("connected", count=2)
    assert connected[1].data["socketId"] != before
    answer = await socket.ask("unsubscribe", {"subscriptionId": posts["subscriptionId"]})
    assert answer["error"]["code"] == "SUBSCRIPTION_NOT_FOUND"
    marker = await socket.subscribe("posts", filters={"author_id": author}, subscriptionId="again")
    await rest.create("posts", title="x", author_id=author)
    await socket.updates(marker, 1)
    assert await socket.told(posts) == []


async def test_a2_20_a_reconnect_with_a_bad_token_is_refused(connect_by: Connect):
    socket: Socket = await connect_by()
    await socket.wait("connected")
    await socket.node.drop(hold=True, socket=socket.name)
    with pytest.raises(NodeClientError, match="Invalid authentication token"):
        await socket.node.reconnect("nonsense", socket=socket.name)
    assert len(await socket.events("connected")) == 1
