"""The unmodified JavaScript client, at servers that are killed: it is brought back whole."""

from __future__ import annotations

from pathlib import Path

from tests.chaos.app import Setup
from tests.chaos.field import FILTERS, field_of
from tests.chaos.unmodified import NodeFollower
from tests.support.node import NodeClient
from tests.support.redis import RedisServer

KILLS = 6


async def test_the_unmodified_client_is_brought_back_whole(
    tmp_path: Path, redis: RedisServer
) -> None:
    setup = Setup(f"sqlite+aiosqlite:///{tmp_path}/c.db", redis=redis.redis())
    async with field_of(setup, "unmodified") as field:
        killed, other = field.cluster.urls
        async with NodeClient(killed, transports="websocket") as client:
            # What the killed server serves is fetched from the other.
            follower = NodeFollower(client, field.http, other, FILTERS[0])
            await follower.begin()
            field.followers.append(follower)  # type: ignore[arg-type]  # what is asked of it, it has
            field.write(3, pause=0.01)
            async with field.writing():
                for number in range(1, KILLS + 1):
                    await field.cluster.kill(0)
                    await field.cluster.start(0)
                    await follower.until(lambda journal, n=number: len(journal.gaps) >= n)
            tally = await field.account()
    assert not tally.faults, f"{tally}\n" + "\n".join(tally.faults[:10])
    # How many come between two kills is the machine's business; some of each life must.
    assert tally.told + tally.folded >= KILLS, tally
