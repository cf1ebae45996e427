"""What a subscription is told is asserted without a pause, and failures explain themselves."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from tests.testing.kit import make_api
from tidings.testing import serve

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def watching(**filters):
    async with serve(make_api()) as served:
        ada = served.client(user_id=1)
        yield served, ada, await ada.subscribe("posts", **filters)


async def test_what_is_told_is_accounted_for_once():
    async with watching(status="published") as (served, _, watch):
        posts = served.api.resources.posts
        post = await posts.post({"title": "News", "status": "published"})
        await posts.patch(post["id"], {"title": "Old news"})
        await posts.patch(post["id"], {"status": "draft"})
        told = await watch.assert_told(post["id"], "enter", action="post")
        assert str(told) == "enter of posts/1 (post)"
        assert told.payload["meta"]["change"] == "enter"
        await watch.assert_told(change="update")
        with pytest.raises(AssertionError, match="leave of posts/1"):
            await watch.assert_silent()
        await watch.assert_told(int(post["id"]), "leave")
        await watch.assert_silent()
        with pytest.raises(AssertionError, match="it was told: nothing"):
            await watch.assert_told(post["id"], "enter")


async def test_silence_about_one_record():
    async with watching(status="published") as (served, _, watch):
        posts = served.api.resources.posts
        await posts.post({"title": "News", "status": "published"})
        await posts.post({"title": "Secret"})
        await watch.assert_silent(2)
        with pytest.raises(AssertionError):
            await watch.assert_silent(1)
        watch.clear()
        await watch.assert_silent()


async def test_silence_of_all_subscriptions_of_a_user():
    async with watching(status="published") as (served, ada, watch):
        await ada.subscribe("posts", status="draft")
        await served.api.resources.posts.post({"title": "News", "status": "published"})
        await watch.assert_told(1)
        await ada.assert_silent()
        await served.api.resources.posts.post({"title": "Mine", "owner_id": "1"})
        with pytest.raises(AssertionError, match="status='draft'"):
            await ada.assert_silent()


async def test_a_failure_names_the_clause_that_does_not_hold():
    async with watching(status="published") as (served, _, watch):
        await served.api.resources.posts.post({"title": "News"})
        with pytest.raises(AssertionError) as failed:
            await watch.assert_told(1, "enter")
        assert str(failed.value).splitlines()[:3] == [
            "the subscription of 1 to posts(status='published') was not told of "
            "id='1', change='enter'",
            "  it was told: nothing",
            "  posts/1: does not match",
        ]
        assert "fails: filter 'status': status = 'published'; it is 'draft'" in str(failed.value)
        assert "fails: server: " in str(failed.value)


async def test_a_failure_tells_of_a_record_that_is_gone():
    async with watching(status="published") as (served, _, watch):
        posts = served.api.resources.posts
        await posts.post({"title": "News", "status": "published"})
        await posts.delete(1)
        await watch.assert_told(1, "enter")
        with pytest.raises(AssertionError) as failed:
            await watch.assert_silent()
        assert "leave of posts/1 (delete)" in str(failed.value)
        assert "its delete at " in str(failed.value)


async def test_a_rolled_back_transaction_is_silence():
    async with watching(status="published") as (served, _, watch):
        posts = served.api.resources.posts
        with pytest.raises(ZeroDivisionError):
            async with served.api.transaction() as uow:
                await posts.post({"title": "News", "status": "published"}, transaction=uow)
                raise ZeroDivisionError
        await watch.assert_silent()


async def test_assertions_wait_for_permissions_that_are_being_asked():
    """Nothing here takes a known time, and yet both assertions know when to look."""
    asked, answer = asyncio.Event(), asyncio.Event()

    async def slow(context):
        if context.auth.user_id == "2" and made.is_set():
            asked.set()
            await answer.wait()
        return True

    made = asyncio.Event()
    api = make_api(permission_seconds=0)
    api.add_resource("notes", schema={"title": "string"}, check_permissions=slow)
    async with serve(api) as served:
        watch = await served.client(user_id=2).subscribe("notes")
        made.set()
        await api.resources.notes.post({"title": "News"})
        told = asyncio.create_task(watch.assert_told(1, "enter"))
        await asked.wait()
        assert not watch.news
        answer.set()
        await told
        await watch.assert_silent()


async def test_rights_that_change_are_a_resync():
    async with watching(status="published") as (served, _, watch):
        await served.api.permissions_changed(user_id="1")
        await watch.assert_silent()
    teams = {"1": "red"}
    api = make_api()

    @api.hook("subscription_filters")
    def narrow(context):
        context.subscription.require({"title": teams[context.auth.user_id]})

    async with serve(api) as served:
        watch = await served.client(user_id=1).subscribe("posts")
        teams["1"] = "blue"
        await api.permissions_changed(user_id="1")
        told = await watch.assert_told(change="resync", reason="permission")
        assert str(told) == "resync of posts (permission)"
        del teams["1"]
        await api.permissions_changed(user_id="1")
        with pytest.raises(AssertionError, match="it has ended: PERMISSION_DENIED"):
            await watch.assert_told()


async def test_what_was_missed_comes_with_the_restored_subscription():
    async with watching(status="published") as (served, ada, watch):
        await ada.disconnect()
        await served.api.resources.posts.post({"title": "News", "status": "published"})
        restored = await ada.restore(watch)
        assert restored.id == watch.id
        await restored.assert_told(1, "enter")
        await restored.assert_silent()


async def test_a_subscription_from_the_cursor_of_a_document():
    async with watching(status="published") as (served, ada, _):
        cursor = (await ada.query("posts")).json()["meta"]["cursor"]
        await served.api.resources.posts.post({"title": "News", "status": "published"})
        watch = await ada.subscribe("posts", status="published", cursor=cursor)
        await watch.assert_told(1, "enter")
        later = await ada.subscribe("posts", {"status": "published"})
        await later.assert_silent()


async def test_after_its_end_nothing_comes():
    async with watching(status="published") as (served, _, watch):
        await watch.end()
        await served.api.resources.posts.post({"title": "News", "status": "published"})
        await watch.assert_silent()


async def test_many_changes_at_once_have_all_arrived():
    """More than one write of the socket holds, so that the server has to wait for the client."""
    async with watching(status="published") as (served, ada, watch):
        posts, count = served.api.resources.posts, 900
        async with served.api.transaction() as uow:
            for number in range(count):
                await posts.post({"title": str(number), "status": "published"}, transaction=uow)
        await ada.settled()
        assert len({told.id for told in watch.news if told.change == "enter"}) == count
