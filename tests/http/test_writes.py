"""POST, PUT, PATCH and DELETE: what they do, and what stands in their way."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from tests.http.kit import Client, document, error, errors, make_api, serving


@pytest.fixture
async def ada(http: Client) -> str:
    return (await http.made("users", {"name": "Ada"}))["id"]


async def test_post_makes_a_record_and_says_where(http: Client) -> None:
    response = await http.create("posts", {"title": "new"})
    assert response.status_code == 201
    data = response.json()["data"]
    assert response.headers["location"] == data["links"]["self"] == f"/api/posts/{data['id']}"
    assert data["attributes"]["status"] == "draft"
    assert data["attributes"]["view_count"] == 0
    assert data["attributes"]["body"] is None
    assert await http.data(f"/posts/{data['id']}") == data


async def test_patch_changes_only_what_is_given(http: Client, ada: str) -> None:
    made = await http.made("posts", {"title": "a", "body": "b"}, author=("users", ada))
    response = await http.change("posts", made["id"], {"body": None, "view_count": 3})
    assert response.status_code == 200
    data = response.json()["data"]
    assert data["attributes"] == {**made["attributes"], "body": None, "view_count": 3}
    assert data["relationships"]["author"]["data"] == {"type": "users", "id": ada}
    assert (await http.change("posts", made["id"])).json()["data"] == data
    response = await http.change("posts", made["id"], author=None)
    assert response.json()["data"]["relationships"]["author"]["data"] is None


async def test_put_replaces_the_record_whole(http: Client, ada: str) -> None:
    made = await http.made(
        "posts", {"title": "a", "body": "b", "tags": ["x"], "view_count": 9}, author=("users", ada)
    )
    response = await http.change("posts", made["id"], {"title": "c"}, method="PUT")
    assert response.status_code == 200
    data = response.json()["data"]
    assert data["attributes"]["title"] == "c"
    for name, value in (("body", None), ("tags", None), ("view_count", 0), ("status", "draft")):
        assert data["attributes"][name] == value
    assert data["relationships"]["author"]["data"] is None


async def test_put_keeps_what_the_client_may_not_or_cannot_send(http: Client, library: Any) -> None:
    made = await library.resources.posts.post({"title": "a", "score": 99, "note": "mine"})
    response = await http.change("posts", made["id"], {"title": "b"}, method="PUT")
    assert response.json()["data"]["attributes"]["score"] == 99
    assert (await library.resources.posts.get(made["id"]))["note"] == "mine"


async def test_put_without_a_required_value_is_refused(http: Client) -> None:
    made = await http.made("posts", {"title": "a"})
    response = await http.change("posts", made["id"], {"body": "b"}, method="PUT")
    error(response, 422, "REQUIRED", pointer="/data/attributes/title")


async def test_put_makes_a_record_where_clients_choose_ids(http: Client) -> None:
    for resource, chosen in (("tokens", str(uuid.uuid4())), ("pages", "a page/with ünicode?#%")):
        url = f"/{resource}/{quote(chosen, safe='')}"
        response = await http.write("PUT", url, document(resource, {"name": "1"}, chosen))
        assert response.status_code == 201
        assert response.headers["location"] == response.json()["data"]["links"]["self"]
        response = await http.write("PUT", url, document(resource, {"name": "2"}, chosen))
        assert response.status_code == 200
        data = await http.data(url)
        assert (data["id"], data["attributes"]) == (chosen, {"name": "2"})
        assert (await http.delete(url)).status_code == 204


async def test_put_makes_no_record_where_the_server_chooses_ids(http: Client) -> None:
    response = await http.change("posts", 999999, {"title": "a"}, method="PUT")
    error(response, 404, "RECORD_NOT_FOUND")
    response = await http.change("tokens", "no-uuid", {"name": "a"}, method="PUT")
    error(response, 404, "RECORD_NOT_FOUND")


async def test_delete(http: Client) -> None:
    made = await http.made("posts", {"title": "a"})
    response = await http.delete(f"/posts/{made['id']}")
    assert (response.status_code, response.content) == (204, b"")
    error(await http.delete(f"/posts/{made['id']}"), 404, "RECORD_NOT_FOUND")
    error(await http.get(f"/posts/{made['id']}"), 404, "RECORD_NOT_FOUND")
    error(await http.change("posts", made["id"], {"title": "b"}), 404, "RECORD_NOT_FOUND")


# Ids


async def test_client_ids_where_they_are_allowed(http: Client) -> None:
    chosen = str(uuid.uuid4())
    assert (await http.made("tokens", {"name": "a"}, record_id=chosen))["id"] == chosen
    response = await http.create("tokens", {"name": "b"}, record_id=chosen)
    error(response, 409, "ID_TAKEN", pointer="/data/id")
    assert uuid.UUID((await http.made("tokens", {"name": "c"}))["id"])
    assert uuid.UUID((await http.made("pages", {"name": "c"}))["id"])


async def test_client_ids_that_cannot_be(http: Client) -> None:
    cases = [("tokens", "1"), ("tokens", ""), ("pages", ""), ("pages", "x" * 256)]
    cases += [
        ("pages", "a\0b"),
        ("tokens", str(uuid.uuid4()).upper()),
        ("tokens", uuid.uuid4().hex),
    ]
    for resource, chosen in cases:
        response = await http.create(resource, {"name": "a"}, record_id=chosen)
        error(response, 400, "INVALID_ID", pointer="/data/id")


async def test_client_ids_where_they_are_not_allowed(http: Client) -> None:
    for chosen in ("1", "nonsense", ""):
        response = await http.create("posts", {"title": "a"}, record_id=chosen)
        error(response, 403, "CLIENT_ID_NOT_ALLOWED", pointer="/data/id")


async def test_type_or_id_other_than_the_url_says(http: Client) -> None:
    made = (await http.made("posts", {"title": "a"}))["id"]
    for method in ("PATCH", "PUT"):
        body = document("users", {"name": "a"}, made)
        response = await http.write(method, f"/posts/{made}", body)
        error(response, 409, "TYPE_CONFLICT", pointer="/data/type")
        body = document("posts", {"title": "b"}, "999999")
        response = await http.write(method, f"/posts/{made}", body)
        error(response, 409, "ID_CONFLICT", pointer="/data/id")
        response = await http.write(method, f"/posts/{made}", document("posts", {"title": "b"}))
        error(response, 400, "INVALID_DOCUMENT", pointer="/data/id")
    response = await http.write("POST", "/posts", document("users", {"name": "a"}))
    error(response, 409, "TYPE_CONFLICT", pointer="/data/type")


# Conflicts and references


async def test_a_unique_value_that_is_taken(http: Client) -> None:
    await http.made("posts", {"title": "a", "slug": "taken"})
    other = await http.made("posts", {"title": "b"})
    response = await http.create("posts", {"title": "c", "slug": "taken"})
    assert error(response, 409, "NOT_UNIQUE")["meta"] == {"fields": ["slug"]}
    response = await http.change("posts", other["id"], {"slug": "taken"})
    assert error(response, 409, "NOT_UNIQUE")["meta"] == {"fields": ["slug"]}
    response = await http.change("posts", other["id"], {"title": "b", "slug": "taken"}, "PUT")
    error(response, 409, "NOT_UNIQUE")
    await http.made("posts", {"title": "null is not unique"})
    await http.made("posts", {"title": "null is not unique"})


async def test_related_records_that_do_not_exist(http: Client, ada: str) -> None:
    pointer = "/data/relationships/author/data"
    response = await http.create("posts", {"title": "a"}, author=("users", "999999"))
    error(response, 404, "RELATED_NOT_FOUND", pointer=pointer)
    made = await http.made("posts", {"title": "a"}, author=("users", ada))
    for method in ("PATCH", "PUT"):
        response = await http.change(
            "posts", made["id"], {"title": "a"}, method, author=("users", "999999")
        )
        error(response, 404, "RELATED_NOT_FOUND", pointer=pointer)
    data = await http.data(f"/posts/{made['id']}")
    assert data["relationships"]["author"]["data"]["id"] == ada


async def test_only_the_wrong_reference_is_blamed(http: Client, ada: str) -> None:
    response = await http.create(
        "posts", {"title": "a"}, author=("users", ada), category=("categories", "999999")
    )
    pointer = "/data/relationships/category/data"
    error(response, 404, "RELATED_NOT_FOUND", pointer=pointer)


async def test_ids_of_related_records_that_cannot_be(http: Client) -> None:
    pointer = "/data/relationships/author/data"
    for wrong in ("nonsense", "", "1.5", "9" * 30):
        response = await http.create("posts", {"title": "a"}, author=("users", wrong))
        error(response, 422, "INVALID_VALUE", pointer=pointer)
    response = await http.create("posts", {"title": "a"}, author=("posts", "1"))
    error(response, 409, "TYPE_CONFLICT", pointer=f"{pointer}/type")


async def test_a_record_that_is_still_referred_to(http: Client, ada: str) -> None:
    post = await http.made("posts", {"title": "a"}, author=("users", ada))
    error(await http.delete(f"/users/{ada}"), 409, "STILL_REFERENCED")
    assert (await http.get(f"/users/{ada}")).status_code == 200
    await http.delete(f"/posts/{post['id']}")
    assert (await http.delete(f"/users/{ada}")).status_code == 204


async def test_a_document_can_be_sent_back(http: Client, ada: str) -> None:
    post = await http.made("posts", {"title": "a"}, author=("users", ada))
    url = f"/posts/{post['id']}"
    made = [
        await http.made("comments", {"text": text}, post=("posts", post["id"])) for text in "ab"
    ]
    given = (await http.get(f"{url}?include=comments")).json()["data"]
    given["attributes"].pop("score")  # read-only
    for method in ("PATCH", "PUT"):
        response = await http.write(method, url, {"data": given})
        assert response.status_code == 200, response.text
    given["relationships"]["comments"]["data"].reverse()
    assert (await http.write("PATCH", url, {"data": given})).status_code == 200
    del given["relationships"]["comments"]["data"]  # as where they were not included
    assert (await http.write("PATCH", url, {"data": given})).status_code == 200
    assert len(await http.data(f"/comments?filter[post_id]={post['id']}")) == len(made)


async def test_at_members_mean_nothing(http: Client) -> None:
    body = document("posts", {"title": "a", "@type": "Article"})
    body["data"] |= {"@id": "x", "relationships": {"@links": 7}}
    assert (await http.write("POST", "/posts", body | {"@context": {}})).status_code == 201


async def test_one_record_has_one_spelling(http: Client, ada: str) -> None:
    for spelled in (f"0{ada}", f"+{ada}", f"{ada}.0", f"%20{ada}", "%EF%BC%91", "%D9%A1"):
        for method in ("GET", "DELETE"):
            error(await http.request(method, f"/users/{spelled}"), 404, "RECORD_NOT_FOUND")
    for spelled in (f"0{ada}", f"+{ada}", "\uff11"):
        response = await http.create("posts", {"title": "a"}, author=("users", spelled))
        error(response, 422, "INVALID_VALUE", pointer="/data/relationships/author/data")
    response = await http.change("users", f"0{ada}", {"name": "b"})
    error(response, 404, "RECORD_NOT_FOUND")
    assert (await http.data(f"/users/{ada}"))["attributes"]["name"] != "b"


async def test_a_changed_relationship_beside_the_key_that_it_had(http: Client, ada: str) -> None:
    other = (await http.made("users", {"name": "b"}))["id"]
    third = (await http.made("users", {"name": "c"}))["id"]
    post = (await http.made("posts", {"title": "a"}, author=("users", ada)))["id"]

    async def change(key: str | None, related: str | None) -> Any:
        to = None if related is None else ("users", related)
        return await http.change("posts", post, {"author_id": key}, author=to)

    async def author() -> Any:
        found = (await http.data(f"/posts/{post}"))["relationships"]["author"]["data"]
        return found and found["id"]

    pointer = "/data/relationships/author/data"
    assert (await change(ada, other)).status_code == 200
    assert await author() == other
    assert (await change(third, other)).status_code == 200
    assert await author() == third
    error(await change(ada, other), 400, "INVALID_DOCUMENT", pointer=pointer)
    assert (await change(third, None)).status_code == 200
    assert await author() is None
    error(await change(ada, other), 400, "INVALID_DOCUMENT", pointer=pointer)
    assert (await change(None, ada)).status_code == 200
    assert await author() == ada


async def test_a_relationship_given_twice_must_agree(http: Client, ada: str) -> None:
    response = await http.create("posts", {"title": "a", "author_id": ada}, author=("users", ada))
    assert response.status_code == 201
    response = await http.create(
        "posts", {"title": "a", "author_id": "1234"}, author=("users", ada)
    )
    error(response, 400, "INVALID_DOCUMENT", pointer="/data/relationships/author/data")


async def test_a_required_relationship(http: Client) -> None:
    response = await http.create("comments", {"text": "lost"})
    assert {entry["code"] for entry in errors(response, 422)} == {"REQUIRED"}
    post = await http.made("posts", {"title": "a"})
    made = await http.made("comments", {"text": "found"}, post=("posts", post["id"]))
    response = await http.change("comments", made["id"], post=None)
    error(response, 422, "REQUIRED", pointer="/data/relationships/post/data")
    await http.delete(f"/comments/{made['id']}")


# Everything that is wrong, at once


async def test_every_wrong_value_of_a_document_is_reported_at_once(http: Client) -> None:
    values = {
        "title": "",
        "status": "nonsense",
        "view_count": -1,
        "rating": "high",
        "price": "1.234",
        "is_public": "yes",
        "published_at": 5,
        "tags": {"not": "a list"},
        "place": {"deep": [1, {"bad~key/": "a\0"}]},
        "score": 1,
        "nothing": 1,
        "a/b~c": 1,
    }
    response = await http.create("posts", values, author=("users", "x"))
    found = {entry["source"]["pointer"]: entry["code"] for entry in errors(response, 422)}
    attributes = "/data/attributes"
    assert found == {
        f"{attributes}/title": "TOO_SMALL",
        f"{attributes}/status": "NOT_ALLOWED",
        f"{attributes}/view_count": "TOO_SMALL",
        f"{attributes}/rating": "INVALID_VALUE",
        f"{attributes}/price": "INVALID_VALUE",
        f"{attributes}/is_public": "INVALID_VALUE",
        f"{attributes}/published_at": "INVALID_VALUE",
        f"{attributes}/tags": "INVALID_VALUE",
        f"{attributes}/place/deep/1/bad~0key~1": "INVALID_VALUE",
        f"{attributes}/score": "READ_ONLY",
        f"{attributes}/nothing": "UNKNOWN_FIELD",
        f"{attributes}/a~1b~0c": "UNKNOWN_FIELD",
        "/data/relationships/author/data": "INVALID_VALUE",
    }
    response = await http.create("posts", {"view_count": -1})
    found = {entry["source"]["pointer"]: entry["code"] for entry in errors(response, 422)}
    assert found == {f"{attributes}/title": "REQUIRED", f"{attributes}/view_count": "TOO_SMALL"}


async def test_a_refused_write_changes_nothing(http: Client) -> None:
    made = await http.made("posts", {"title": "before", "slug": "unchanged"})
    await http.made("posts", {"title": "other", "slug": "occupied"})
    for values in ({"title": "after", "view_count": -1}, {"title": "after", "slug": "occupied"}):
        assert (await http.change("posts", made["id"], values)).status_code >= 400
        assert await http.data(f"/posts/{made['id']}") == made


async def test_a_misspelt_name_gets_a_suggestion_but_never_a_hidden_one(http: Client) -> None:
    response = await http.create("posts", {"title": "a", "view_cuont": 1, "notes": "x"})
    details = [entry["detail"] for entry in errors(response, 422)]
    assert "did you mean 'view_count'" in details[0]
    assert "'note'" not in details[1]


async def test_a_database_that_stays_busy_asks_to_come_again(tmp_path: Path) -> None:
    api = make_api(tmp_path / "busy.db")
    api.add_resource("notes", schema={"text": "string"})
    async with serving(api) as http:
        api._database._busy_timeout = 0.05  # type: ignore[union-attr]
        async with api.transaction() as uow:
            await api.resources.notes.post({"text": "first"}, transaction=uow)
            response = await http.create("notes", {"text": "second"})
            error(response, 503, "DATABASE_BUSY")
            assert response.headers["retry-after"] == "1"
            assert await http.data("/notes") == []
        await http.made("notes", {"text": "second"})
        assert len(await http.data("/notes")) == 2
