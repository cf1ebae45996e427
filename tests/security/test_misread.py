"""Policies and filters that quietly say less than they seem to are refused, in words that help."""

from __future__ import annotations

from typing import Any

import pytest

from tests.realtime.kit import make_api, running
from tidings import ConfigurationError, Identity

pytestmark = pytest.mark.anyio
ANN = Identity(user_id="7", claims={"team": "x"})

DROPPED: list[Any] = [
    lambda c, i: c.owner == i.user_id and c.title == "x",
    lambda c, i: c.owner == i.user_id or c.is_public,
    lambda c, i: not (c.owner == i.user_id),  # noqa: SIM201
    lambda c, i: c.owner in ("7", "8"),
    lambda c, i: 1 < c.number < 5,
    lambda c, i: True if c.owner == i.user_id else False,  # noqa: SIM210  what it is about
    lambda c, i: (c.number + 1 == 2) and c.is_public,
]
OTHER: list[Any] = [lambda c, i: c.number == i.team, lambda c, i: "yes", lambda c, i: None]


@pytest.mark.parametrize("policy", range(len(DROPPED)))
async def test_a_condition_has_no_truth(policy: int) -> None:
    with pytest.raises(ConfigurationError, match="used as True or False"):
        await asked(DROPPED[policy])


async def test_a_list_of_conditions_says_nothing() -> None:
    with pytest.raises(ConfigurationError, match=r"row policy of 'notes': .*join them"):
        await asked(lambda c, i: [c.owner == i.user_id])


@pytest.mark.parametrize("policy", range(len(OTHER)))
async def test_an_answer_that_cannot_be_read_denies_with_a_line(
    policy: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A claim of an unforeseen type may be the reason: that is nobody's mistake."""
    assert await asked(OTHER[policy]) == []
    assert "row policy of 'notes' denies: " in caplog.text
    assert "expected True, False" in caplog.text or "'number' is of type" in caplog.text


async def test_what_is_written_as_it_should_be_works() -> None:
    assert await asked(lambda c, i: (c.owner == i.user_id) & ~(c.title == "y")) == ["x"]
    assert await asked(lambda c, i: c.owner.in_(["7"]) | (c.number > 5)) == ["x", "y"]


@pytest.mark.parametrize(
    "condition",
    [
        lambda columns, value: columns.title == value and columns.is_public,
        lambda columns, value: columns.is_public or columns.title == value,
        lambda columns, value: not columns.title == value,  # noqa: SIM201
    ],
)
async def test_filters_are_held_to_the_same(condition: Any) -> None:
    api = make_api()
    api.add_resource(
        "notes",
        {"title": "string", "is_public": "boolean"},
        search_schema={"t": {"type": "string", "filter_operator": condition}},
    )
    async with running(api):
        with pytest.raises(ConfigurationError, match="used as True or False"):
            await api.resources.notes.query({"t": "x"})


async def asked(policy: Any) -> list[str]:
    api = make_api()
    api.add_resource(
        "notes",
        {"title": "string", "owner": "string", "number": "integer", "is_public": "boolean"},
        row_policy=policy,
    )
    async with running(api):
        for title in ("x", "y"):
            await api.resources.notes.post({"title": title, "owner": "7", "number": 1})
        page = await api.resources.notes.query(auth=ANN)
        return [record["title"] for record in page]
