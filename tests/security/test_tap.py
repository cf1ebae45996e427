"""The tap finds a value of a record in a frame, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from tests.realtime.kit import delivered, running, subscriber
from tests.security.tap import Tap, tapped
from tidings import Api
from tidings.realtime import delivery, notifications, packets

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
    made = delivery.encoder

    def careless(change: Any, cursor: str) -> Any:
        encode = made(change, cursor)
        title = (change.after or change.before)["title"]

        def with_title(way: str, name: str) -> Any:
            frame = encode(way, name)
            return packets.text_frame(frame.data.replace('"meta":', f'"title":"{title}","meta":'))

        return with_title

    monkeypatch.setattr(delivery, "encoder", careless)
    tap = await _tapped_world()
    assert any(SECRET_TITLE in leak for leak in tap.leaks())


@pytest.mark.parametrize("member", ["id", "type", "reason", "cursor", "message", "subscriptionId"])
async def test_a_value_is_found_wherever_it_is(
    member: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def careless(subscription: Any, reason: str, cursor: Any) -> Any:
        return packets.event_frame("subscription.resync", {member: SECRET_TITLE})

    monkeypatch.setattr(notifications, "resync_frame", careless)
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
