"""What a subscription is told is asserted without a pause, and failures explain themselves."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from tests.testing.kit import make_api
from tidings.testing import SubscriptionRefused, running

pytestmark = pytest.mark.anyio
PUBLISHED = {"status": "published"}


@asynccontextmanager
async def watching():
    """An application, Ann, and her subscription to what is published."""
    async with running(make_api(), database="memory") as live:
        ann = live.client(user_id=1)
        yield live, ann, await ann.subscribe("posts", PUBLISHED)


async def test_what_is_told_is_accounted_for_once():
    async with watching() as (live, _, watch):
        posts = live.api.resources.posts
        post = await posts.post({"title": "News", "status": "published"})
        await posts.patch(post["id"], {"title": "Old news"})
        await watch.assert_told(("enter", post["id"]), ("update", int(post["id"])))
        await watch.assert_silent()
        await posts.patch(post["id"], {"status": "draft"})
        with pytest.raises(AssertionError, match=r"told: +\[\('leave', '1'\)\]"):
            await watch.assert_silent()


async def test_the_order_counts():
    async with watching() as (live, _, watch):
        posts = live.api.resources.posts
        await posts.post({"title": "a", "status": "published"})
        await posts.post({"title": "b", "status": "published"})
        with pytest.raises(AssertionError, match="posts 1: matches"):
            await watch.assert_told(("enter", 2), ("enter", 1))


async def test_silence_of_all_subscriptions_of_a_user():
    async with watching() as (live, ann, watch):
        await ann.subscribe("posts", {"status": "draft"})
        await live.api.resources.posts.post({"title": "News", "status": "published"})
        await watch.assert_told(("enter", 1))
        await ann.assert_silent()
        await live.api.resources.posts.post({"title": "Mine", "owner_id": "1"})
        with pytest.raises(AssertionError, match="draft"):
            await ann.assert_silent()


async def test_a_failure_names_the_clauses_that_do_not_hold():
    async with watching() as (live, _, watch):
        await live.api.resources.posts.post({"title": "News"})
        with pytest.raises(AssertionError) as failed:
            await watch.assert_told(("enter", 1))
        assert str(failed.value).splitlines() == [
            "1 watches 'posts' where {'status': 'published'}",
            "  told:     []",
            "  expected: [('enter', '1')]",
            "  posts 1: does not match",
            "    fails: server: status = 'published' or owner_id = '1'",
            "    fails: filter 'status': status = 'published'; it is 'draft'",
        ]


async def test_a_failure_tells_of_a_record_that_is_gone():
    async with watching() as (live, _, watch):
        posts = live.api.resources.posts
        await posts.post({"title": "News", "status": "published"})
        await posts.delete(1)
        with pytest.raises(AssertionError) as failed:
            await watch.assert_told(("enter", 1))
        assert str(failed.value).splitlines()[1:] == [
            "  told:     [('enter', '1'), ('leave', '1')]",
            "  expected: [('enter', '1')]",
            "  posts 1: There is no 'posts' with id '1'",
            "    post: enter",
            "    delete: leave",
        ]


async def test_a_rolled_back_transaction_is_silence():
    async with watching() as (live, _, watch):
        posts = live.api.resources.posts
        with pytest.raises(ZeroDivisionError):
            async with live.api.transaction() as uow:
                await posts.post({"title": "News", "status": "published"}, transaction=uow)
                raise ZeroDivisionError
        await watch.assert_silent()


async def test_assertions_wait_for_permissions_that_are_being_asked():
    """Nothing here takes a known time, and yet both assertions know when to look."""
    asked, answer, made = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def slow(context):
        if context.auth.user_id == "2" and made.is_set():
            asked.set()
            await answer.wait()
        return True

    api = make_api(permission_seconds=0)
    api.add_resource("notes", schema={"title": "string"}, check_permissions=slow)
    async with running(api, database="memory") as live:
        watch = await live.client(user_id=2).subscribe("notes")
        made.set()
        await api.resources.notes.post({"title": "News"})
        told = asyncio.create_task(watch.assert_told(("enter", 1)))
        await asked.wait()
        assert not told.done()
        answer.set()
        await told
        await watch.assert_silent()


async def test_rights_that_change_are_a_resync():
    teams = {"1": "red"}
    api = make_api()

    @api.hook("subscription_filters")
    def narrow(context):
        context.subscription.require({"title": teams[context.auth.user_id]})

    async with running(api, database="memory") as live:
        watch = await live.client(user_id=1).subscribe("posts")
        await api.permissions_changed(user_id="1")
        await watch.assert_silent()
        teams["1"] = "blue"
        await api.permissions_changed(user_id="1")
        await watch.assert_told(("resync", "permission"))
        del teams["1"]
        await api.permissions_changed(user_id="1")
        with pytest.raises(AssertionError, match="it has ended: PERMISSION_DENIED"):
            await watch.assert_told(("resync", "permission"))


async def test_what_was_missed_comes_with_the_restored_subscription():
    async with watching() as (live, ann, watch):
        await ann.disconnect()
        await live.api.resources.posts.post({"title": "News", "status": "published"})
        again = await ann.restore(watch)
        assert again.id == watch.id
        await again.assert_told(("enter", 1))
        await ann.disconnect()
        await (await ann.restore(again)).assert_silent()  # its cursor has moved on
        again.data["filters"] = {"colour": "red"}
        await ann.disconnect()
        with pytest.raises(SubscriptionRefused) as refused:
            await ann.restore(again)
        assert refused.value.details["colour"]["code"] == "UNKNOWN_FIELD"


async def test_after_its_end_nothing_comes():
    async with watching() as (live, _, watch):
        await watch.end()
        await live.api.resources.posts.post({"title": "News", "status": "published"})
        await watch.assert_silent()
        with pytest.raises(SubscriptionRefused) as refused:
            await watch.end()
        assert refused.value.code == "SUBSCRIPTION_NOT_FOUND"


async def test_many_changes_at_once_have_all_arrived():
    """More than a socket holds, so that the server has to wait for the client."""
    async with watching() as (live, _, watch):
        posts, count = live.api.resources.posts, 900
        async with live.api.transaction() as uow:
            for number in range(count):
                await posts.post({"title": str(number), "status": "published"}, transaction=uow)
        assert await watch.told() == [("enter", str(number + 1)) for number in range(count)]
