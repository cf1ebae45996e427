"""The tap finds a value of a record in a frame, and nothing else."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.guide.kit import ADMIN, Rest, Socket
from tests.realtime.kit import delivered, running, subscriber
from tests.security.leaky import leak_titles
from tests.security.tap import Tap, tapped
from tests.support.node import NodeClient
from tests.support.server import RunningServer, run_server
from tidings import Api
from tidings.realtime import notifications
from tidings.realtime.messages import Event

pytestmark = pytest.mark.leaks

SECRET_TITLE = "Quarterly figures"


async def _world(api: Api, **filters: Any) -> None:
    person, _ = subscriber()
    service = api.socket_server._service
    await service.subscribe(person, {"resource": "posts", "filters": filters})
    post = await api.resources.posts.post({"title": SECRET_TITLE, "status": "published"})
    await api.resources.posts.patch(post["id"], {"views": 3})
    await api.resources.posts.delete(post["id"])
    await delivered(api)


async def _tapped_world(**filters: Any) -> Tap:
    async with running() as api:
        with tapped() as tap:
            await _world(api, **filters)
    return tap


async def test_frames_hold_no_values_of_records() -> None:
    tap = await _tapped_world(status="published")
    assert tap.written >= {SECRET_TITLE, "published"}
    assert len(tap.frames) == 3
    assert tap.leaks() == []


async def test_a_title_in_a_packet_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    leak_titles(monkeypatch)
    tap = await _tapped_world()
    assert any(SECRET_TITLE in leak for leak in tap.leaks())


@pytest.mark.parametrize("member", ["id", "type", "reason", "cursor", "message", "subscriptionId"])
async def test_a_value_is_found_wherever_it_is(
    member: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def careless(subscription: Any, reason: str, cursor: Any) -> Any:
        return Event.of("subscription.resync", {member: SECRET_TITLE})

    monkeypatch.setattr(notifications, "resync_event", careless)
    async with running() as api:
        with tapped() as tap:
            await _world(api)
            service = api.socket_server._service
            await api.socket_server._dispatcher._resync(service.active(), "bulk")
    assert len(tap.leaks()) == 1


async def test_what_a_client_has_sent_may_come_back() -> None:
    tap = await _tapped_world(status=SECRET_TITLE)
    tap.frames.add(f'2["subscription.created",{{"filters":{{"status":"{SECRET_TITLE}"}}}}]')
    assert tap.leaks() == []


GUIDE = """
import runpy
import sys
import pytest
from tests.security.leaky import leak_titles
{leak}
sys.path.append("examples/guide")
runpy.run_path("examples/guide/app.py", run_name="__main__")
"""


async def _guide_app(leak: str) -> RunningServer:
    """The guide's app, in a process of its own, with a subscriber and a change."""
    async with (
        run_server(["-c", GUIDE.format(leak=leak)]) as server,
        httpx.AsyncClient(base_url=server.url) as http,
        NodeClient(server.url) as node,
    ):
        await node.connect(ADMIN, socket="one")
        socket = Socket(node, "one")
        made = await socket.subscribe("posts")
        await Rest(http).create("posts", title=SECRET_TITLE, author_id="1")
        await socket.updates(made, 1)
    return server


async def test_a_server_in_another_process_is_tapped() -> None:
    server = await _guide_app("")
    assert server.tapped is not None
    assert server.tapped["frames"] >= 3
    assert server.tapped["written"] >= 1
    assert server.tapped["leaks"] == []


async def test_a_leak_in_another_process_is_found() -> None:
    with pytest.raises(AssertionError, match=f"(?s){SECRET_TITLE}.*in 2"):
        await _guide_app("leak_titles(pytest.MonkeyPatch())")


async def test_a_server_that_does_not_tell_what_the_tap_has_found_is_noticed() -> None:
    silent = "import os, signal\nsignal.signal(signal.SIGTERM, lambda *_: os._exit(0))\n"
    with pytest.raises(AssertionError, match="did not say what the tap has found"):
        async with run_server(["-c", silent + GUIDE.format(leak="")]):
            pass
