"""What is wrong with a policy is said where it is declared, at start, or to who asks: never by an
empty list alone.
"""

from __future__ import annotations

from typing import Any

import pytest
from tests.realtime.kit import make_api, running

from tidings import Api, ConfigurationError, FilterError, Identity


def declare(policy: Any, **options: Any) -> Api:
    api = make_api()
    api.add_resource("teams", schema={"name": "string", "lead_id": "integer"})
    api.add_resource(
        "tasks",
        schema={"title": "string", "owner_no": "integer", "team_id": {"belongs_to": "teams"}},
        row_policy=policy,
        **options,
    )
    return api


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        (lambda c: True, "it is called with two arguments, (columns, identity), and takes others"),
        (lambda: True, "takes others"),
        ({"query": lambda c, i, more: True}, "row_policy, 'query': it is called with two"),
        ({"read": lambda c, i: True}, "'read' is none of"),
        ("owner", "expected an ordinary function (columns, identity)"),
    ],
)
def test_at_the_declaration(policy: Any, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        declare(policy)
    assert said in str(caught.value)
    assert "resource 'tasks', row_policy" in str(caught.value)


@pytest.mark.parametrize(
    ("policy", "options", "said"),
    [
        (lambda c, i: {"team.lead_id": 1}, {}, "name it in borrows=['team.lead_id']"),
        (lambda c, i: c.team.lead_id == 1, {}, "'team', but a relationship: for a column of its"),
        (lambda c, i: {"titel": "x"}, {}, "no column 'titel'; did you mean 'title'?"),
        (lambda c, i: c.titel == "x", {}, "no column 'titel'; did you mean 'title'?"),
        (lambda c, i: c["titel"] == "x", {}, "no column 'titel'; did you mean 'title'?"),
        (lambda c, i: {"$or": [{"crew.lead_id": 1}]}, {}, "there is no column 'crew.lead_id'"),
        (lambda c, i: True, {"borrows": ["team.leader"]}, "'teams' has no field 'leader'"),
    ],
)
async def test_at_start(policy: Any, options: Any, said: str) -> None:
    api = declare(policy, **options)
    with pytest.raises(ConfigurationError) as caught:
        await api.open()
    assert said in str(caught.value)
    assert "resource 'tasks'" in str(caught.value)


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        (lambda c, i: [c.title == "x"], "a list of conditions says nothing: join them with & or |"),
        (lambda c, i: c.owner_no == i.user_id, "'owner_no' is of type 'integer' and is compared"),
        (lambda c, i: c.title == "x" and c.owner_no == 1, "and"),
    ],
)
async def test_when_it_is_asked(policy: Any, said: str) -> None:
    async with running(declare(policy)) as api:
        with pytest.raises(ConfigurationError) as caught:
            await api.resources.tasks.query(auth=Identity(user_id="ann"))
    assert said in str(caught.value)


async def test_a_policy_that_needs_other_claims_starts() -> None:
    def policy(columns: Any, identity: Any) -> Any:
        return {"owner_no": identity.team["number"] + 1}

    async with running(declare(policy)) as api:
        assert len(await api.resources.tasks.query(auth=Identity(user_id="ann"))) == 0


@pytest.mark.parametrize(
    ("filters", "said"),
    [
        ({"titel": "x"}, "Invalid filter values: titel: Field not defined in search_schema"),
        (
            {"owner_no": "x", "state": "gone"},
            "Invalid filter values: owner_no: expected an integer; state: must be one of: on, off",
        ),
    ],
)
async def test_a_filter_error_names_the_filter_and_the_reason(
    filters: dict[str, Any], said: str
) -> None:
    api = make_api()
    api.add_resource(
        "tasks",
        schema={
            "owner_no": {"type": "integer", "search": True},
            "state": {"type": "enum", "enum": ["on", "off"], "search": True},
        },
    )
    async with running(api):
        with pytest.raises(FilterError) as caught:
            await api.resources.tasks.query(filters)
    assert str(caught.value) == said


async def test_a_resource_without_filters_says_so_in_python_too() -> None:
    api = make_api()
    api.add_resource("tasks", schema={"title": "string"})
    async with running(api):
        with pytest.raises(FilterError, match="does not have search_schema defined"):
            await api.resources.tasks.query({"title": "x"})
