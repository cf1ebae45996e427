"""What the board shows when it is opened for the first time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tidings import Api
from tidings.demo.users import USERS

# author, title, content, status, views, published how many minutes ago
_POSTS = (
    (
        "Cleo",
        "South harbour opens early",
        "The pilots have agreed: first boats from five in the morning.",
        "published",
        186,
        2880,
    ),
    (
        "Ben",
        "Winter timetable",
        "Last year's plan, kept for reference.",
        "archived",
        412,
        None,
    ),
    (
        "Ann",
        "The lighthouse gets a new lamp",
        "Fitted on Thursday. It turns a little slower and reaches two miles further.",
        "published",
        128,
        1560,
    ),
    (
        "Cleo",
        "Rota for the ice house",
        "Names are missing for the second week.",
        "draft",
        4,
        None,
    ),
    (
        "Ben",
        "Ferry moves to pier four",
        "From Monday, while pier two is being repaired. The café moves along with it.",
        "published",
        74,
        240,
    ),
    (
        "Ann",
        "Notes from the harbour meeting",
        "Dredging, the fish market's roof, and who feeds the cat.",
        "draft",
        12,
        None,
    ),
    (
        "Cleo",
        "Regatta: call for volunteers",
        "Two for the start line, one with a loud voice.",
        "published",
        33,
        55,
    ),
    (
        "Ben",
        "Fog tomorrow before noon",
        "Visibility under 200 metres. Please sound your horns, however sleepy you are.",
        "published",
        51,
        12,
    ),
)


async def seed(api: Api) -> None:
    """Put the users and their first posts into an empty database."""
    users = {user.name: user for user in USERS}
    now = datetime.now(UTC)
    async with api.transaction() as uow:
        for user in USERS:
            person = {"id": user.id, "name": user.name, "workspace_id": user.workspace_id}
            await api.resources.users.post(person, transaction=uow)
        for name, title, content, status, views, minutes in _POSTS:
            published = None if minutes is None else now - timedelta(minutes=minutes)
            post = {
                "title": title,
                "content": content,
                "status": status,
                "author_id": users[name].id,
                "workspace_id": users[name].workspace_id,
                "published_at": published,
                "view_count": views,
            }
            await api.resources.posts.post(post, transaction=uow)
