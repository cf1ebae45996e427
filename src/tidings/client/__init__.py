"""A client of a tidings server for asynchronous Python: to watch resources, and to keep lists.

    from tidings.client import Client

    async with Client("https://example.org", token=get_token) as client:
        async for change in client.watch("posts", status="published"):
            print(change.kind, change.id)

A notification says only that something changed. `Client.live` fetches what, with the list's own
filters, and keeps a list that is the server's answer, through lost connections, restarts of the
server, expired tokens and rights that change.

Needs ``pip install "tidings[client]"``.
"""

from tidings.client.changes import Change, Kind
from tidings.client.client import Client
from tidings.client.connection import OnStatus, Status
from tidings.client.errors import ClientError
from tidings.client.lists import LiveList
from tidings.client.requests import MEDIA_TYPE
from tidings.client.tokens import GetToken

__all__ = [
    "MEDIA_TYPE",
    "Change",
    "Client",
    "ClientError",
    "GetToken",
    "Kind",
    "LiveList",
    "OnStatus",
    "Status",
]
