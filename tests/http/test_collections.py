"""Collections and items: reading, sorting, sparse fields, pages."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from tests.http.kit import Client, document, error, has_schema

from tidings import Api


@pytest.fixture(scope="module")
async def posts(library: Api) -> AsyncIterator[list[str]]:
    """25 posts: titles a to e, five of each; view counts 0 to 24; ratings on every other one."""
    made = []
    async with library.transaction() as uow:
        for number in range(25):
            values = {
                "title": "abcde"[number % 5],
                "view_count": number,
                "rating": number / 2 if number % 2 else None,
                "note": "hidden from all",
            }
            post = await library.resources.posts.post(values, transaction=uow)
            made.append(post["id"])
    yield made
    async with library.transaction() as uow:
        for post_id in made:
            await library.resources.posts.delete(post_id, transaction=uow)


def test_the_official_schema_is_used_where_it_is_present() -> None:
    if not has_schema():
        pytest.skip("no ../shared/jsonapi: documents are checked by hand only")


async def test_item_shows_attributes_relationships_and_its_own_link(
    http: Client, posts: list[str]
) -> None:
    response = await http.get(f"/posts/{posts[3]}")
    assert response.status_code == 200
    body = response.json()
    assert body["jsonapi"] == {"version": "1.1"}
    assert body["links"]["self"] == f"/api/posts/{posts[3]}"
    data = body["data"]
    assert (data["type"], data["id"]) == ("posts", posts[3])
    assert data["links"]["self"] == f"/api/posts/{posts[3]}"
    assert data["attributes"]["title"] == "d"
    assert data["attributes"]["view_count"] == 3
    assert data["attributes"]["rating"] == 1.5
    assert data["attributes"]["score"] == 7
    assert "note" not in data["attributes"]
    assert "author_id" not in data["attributes"]
    assert data["relationships"]["author"]["data"] is None
    assert "included" not in body


async def test_links_lead_back_to_the_item(http: Client, posts: list[str]) -> None:
    link = (await http.get(f"/posts/{posts[0]}")).json()["links"]["self"]
    root = str(http.base_url).removesuffix("/api/")
    assert (await http.get(root + link)).json()["data"]["id"] == posts[0]


async def test_item_that_is_not_there(http: Client) -> None:
    for missing in ("999999", "0", "-1", "nonsense", "9" * 400, "1.5", "%00", "%F0%9F%A6%86"):
        found = error(await http.get(f"/posts/{missing}"), 404, "RECORD_NOT_FOUND")
        assert len(found["detail"]) < 300


async def test_collection_that_is_not_there(http: Client) -> None:
    for path in ("/nothing", "/posts/1/comments/2", "/Posts", "/posts/1/relationships/author/2"):
        error(await http.get(path), 404, "RESOURCE_NOT_FOUND")


async def test_head_answers_like_get_without_a_body(http: Client, posts: list[str]) -> None:
    for path in ("/posts?page[size]=3", f"/posts/{posts[0]}"):
        got = await http.get(path)
        head = await http.head(path)
        assert head.status_code == 200
        assert head.content == b""
        assert head.headers["content-type"] == got.headers["content-type"]
        assert head.headers["content-length"] == got.headers["content-length"]
    assert (await http.head("/posts/999999")).status_code == 404
    assert (await http.get("/posts")).status_code == 200  # the connection still is in step


async def test_methods_that_are_not_possible_name_those_that_are(
    http: Client, posts: list[str]
) -> None:
    cases = [
        ("PUT", "/posts", "GET, HEAD, POST"),
        ("PATCH", "/posts", "GET, HEAD, POST"),
        ("DELETE", "/posts", "GET, HEAD, POST"),
        ("POST", f"/posts/{posts[0]}", "GET, HEAD, PUT, PATCH, DELETE"),
        ("TRACE", "/posts", "GET, HEAD, POST"),
        ("PROPFIND", f"/posts/{posts[0]}", "GET, HEAD, PUT, PATCH, DELETE"),
    ]
    for method, path, allowed in cases:
        response = await http.request(method, path)
        error(response, 405, "METHOD_NOT_ALLOWED")
        assert response.headers["allow"] == allowed


async def test_a_slash_at_the_end_makes_no_difference(http: Client, posts: list[str]) -> None:
    assert (await http.get("/posts/")).status_code == 200
    assert (await http.get(f"/posts/{posts[0]}/")).json()["data"]["id"] == posts[0]


# Sorting


async def test_sort_by_several_names_up_and_down(http: Client, posts: list[str]) -> None:
    data = await http.data("/posts?sort=-title,view_count&page[size]=50")
    keys = [(entry["attributes"]["title"], entry["attributes"]["view_count"]) for entry in data]
    assert keys == sorted(keys, key=lambda key: (-ord(key[0]), key[1]))


async def test_sort_puts_null_last_both_ways(http: Client, posts: list[str]) -> None:
    for sort in ("rating", "-rating"):
        data = await http.data(f"/posts?sort={sort}&page[size]=50")
        ratings = [entry["attributes"]["rating"] for entry in data]
        known = [rating for rating in ratings if rating is not None]
        assert known == sorted(known, reverse=sort.startswith("-"))
        assert ratings[len(known) :] == [None] * 13


async def test_ties_are_decided_by_id(http: Client, posts: list[str]) -> None:
    for sort in ("title", "-title"):
        data = await http.data(f"/posts?sort={sort}&page[size]=50")
        for title in "abcde":
            ids = [int(entry["id"]) for entry in data if entry["attributes"]["title"] == title]
            assert ids == sorted(ids)
    assert await http.ids("/posts?sort=-id&page[size]=50") == posts[::-1]


async def test_sort_by_what_cannot_be_sorted_is_refused(http: Client) -> None:
    names = ["nothing", "note", "tags", "place", "author", "--title", "author.name", "title asc"]
    for name in names:
        response = await http.get("/posts", params={"sort": name})
        error(response, 400, "INVALID_SORT", parameter="sort")
    many = ",".join(["title"] * 9)
    error(await http.get(f"/posts?sort={many}"), 400, "INVALID_SORT", parameter="sort")


# Sparse fieldsets


async def test_sparse_fields_show_only_what_was_asked(http: Client, posts: list[str]) -> None:
    data = await http.data(f"/posts/{posts[0]}?fields[posts]=title,author")
    assert data["attributes"] == {"title": "a"}
    assert list(data["relationships"]) == ["author"]
    data = await http.data(f"/posts/{posts[0]}?fields%5Bposts%5D=title&fields[posts]=rating")
    assert data["attributes"] == {"title": "a", "rating": None}
    assert "relationships" not in data
    data = await http.data(f"/posts/{posts[0]}?fields[posts]=")
    assert data["attributes"] == {}


async def test_sparse_fields_that_do_not_exist_are_refused(http: Client, posts: list[str]) -> None:
    for name in ("nothing", "note", "author_id", "__class__"):
        for path in ("/posts", f"/posts/{posts[0]}"):
            response = await http.get(f"{path}?fields[posts]={name}")
            error(response, 400, "INVALID_FIELDS", parameter="fields[posts]")
    response = await http.get("/posts?fields[nothing]=title")
    error(response, 400, "INVALID_FIELDS", parameter="fields[nothing]")


async def test_wrong_fields_of_a_write_stop_it_before_it_is_done(http: Client) -> None:
    before = (await http.get("/plain")).json()["meta"]["page"]["total"]
    body = {"data": {"type": "plain", "attributes": {"name": "never"}}}
    response = await http.write("POST", "/plain?fields[plain]=nothing", body)
    error(response, 400, "INVALID_FIELDS", parameter="fields[plain]")
    assert (await http.get("/plain")).json()["meta"]["page"]["total"] == before


async def test_fields_of_a_write_choose_what_its_answer_shows(http: Client) -> None:
    body = {"data": {"type": "posts", "attributes": {"title": "short", "view_count": 4}}}
    response = await http.write("POST", "/posts?fields[posts]=view_count", body)
    data = response.json()["data"]
    assert data["attributes"] == {"view_count": 4}
    await http.delete(f"/posts/{data['id']}")


# Pages


async def test_following_next_to_the_end_meets_every_record_once(
    http: Client, posts: list[str]
) -> None:
    root = str(http.base_url).removesuffix("/api/")
    for query in ("page[size]=7", "page[size]=5&sort=-title", "sort=rating&page%5Bsize%5D=25"):
        seen: list[str] = []
        link = f"/api/posts?{query}"
        while link:
            body = (await http.get(root + link)).json()
            seen += [entry["id"] for entry in body["data"]]
            link = body["links"]["next"]
        assert sorted(seen) == sorted(posts)
        assert len(seen) == len(posts)
        while body["links"]["prev"]:
            body = (await http.get(root + body["links"]["prev"])).json()
            seen = [*(entry["id"] for entry in body["data"]), *seen]
        assert body["meta"]["page"]["number"] == 1


async def test_page_meta_and_links(http: Client, posts: list[str]) -> None:
    body = (await http.get("/posts?page[size]=10&page[number]=2&sort=title&filter[title]=")).json()
    assert body["meta"]["page"] == {"number": 2, "size": 10, "total": 25, "pages": 3}
    links = body["links"]
    root = str(http.base_url).removesuffix("/api/")
    for name, number in {"self": 2, "first": 1, "prev": 1, "next": 3, "last": 3}.items():
        linked = (await http.get(root + links[name])).json()
        assert linked["meta"]["page"]["number"] == number
        assert linked["meta"]["page"]["size"] == 10
        assert "sort=title" in links[name]
        assert links[name].count("number") == 1
    body = (await http.get(root + links["last"])).json()
    assert (len(body["data"]), body["links"]["next"]) == (5, None)
    body = (await http.get(root + links["first"])).json()
    assert (len(body["data"]), body["links"]["prev"]) == (10, None)


async def test_an_empty_collection_has_one_page(http: Client) -> None:
    body = (await http.get("/pages")).json()
    assert body["data"] == []
    assert body["meta"]["page"] == {"number": 1, "size": 20, "total": 0, "pages": 1}
    assert body["links"]["next"] is None
    assert body["links"]["prev"] is None


async def test_a_page_beyond_the_end_is_empty(http: Client, posts: list[str]) -> None:
    for number in (4, 1000, 2**31):
        body = (await http.get(f"/posts?page[number]={number}")).json()
        assert body["data"] == []
        assert body["meta"]["page"]["total"] == 25
        assert body["links"]["next"] is None
        assert body["links"]["prev"] == body["links"]["last"], "the nearest page there is"


async def test_the_link_of_a_document_keeps_the_query(http: Client, posts: list[str]) -> None:
    for query in ("fields%5Bposts%5D=title&include=author", "include="):
        body = (await http.get(f"/posts/{posts[0]}?{query}")).json()
        assert body["links"]["self"] == f"/api/posts/{posts[0]}?{query}"
        assert body["data"]["links"]["self"] == f"/api/posts/{posts[0]}"
    response = await http.write(
        "POST", "/posts?fields[posts]=title", document("posts", {"title": "a"})
    )
    assert response.headers["location"] == response.json()["data"]["links"]["self"]
    assert "?" not in response.headers["location"]
    await http.delete(f"/posts/{response.json()['data']['id']}")


async def test_names_with_nothing_beside_a_comma_are_refused(
    http: Client, posts: list[str]
) -> None:
    for parameter, value in (
        ("include", "author,"),
        ("include", ","),
        ("sort", ",title"),
        ("fields[posts]", "title,,day"),
    ):
        response = await http.get("/posts", params={parameter: value})
        error(response, 400, "INVALID_PARAMETER", parameter=parameter)


async def test_pages_that_make_no_sense_are_refused(http: Client) -> None:
    cases = {
        "size": ["0", "-1", "51", "ten", "", "1.5", "9" * 30, "1e2"],
        "number": ["0", "-1", "x", "", str(2**31 + 1), "9" * 30],
    }
    for name, values in cases.items():
        for value in values:
            response = await http.get("/posts", params={f"page[{name}]": value})
            error(response, 400, "INVALID_PARAMETER", parameter=f"page[{name}]")
    for key in ("page", "page[start]", "page[]", "page[size][a]"):
        response = await http.get("/posts", params={key: "1"})
        error(response, 400, "INVALID_PARAMETER", parameter=key)


async def test_parameters_that_nobody_knows_are_refused(http: Client, posts: list[str]) -> None:
    for key in ("sorts", "q", "Filter[a]", "fields", "fields[a][b]", "include[a]", "filter", ""):
        response = await http.get("/posts", params={key: "x"})
        error(response, 400, "INVALID_PARAMETER", parameter=key)
    for key in ("sort", "page[size]", "filter[title]"):
        response = await http.get(f"/posts/{posts[0]}", params={key: "1"})
        error(response, 400, "INVALID_PARAMETER", parameter=key)


async def test_pages_by_offset(http: Client, posts: list[str]) -> None:
    """From any record on; every link leads to what it says."""
    every = await http.ids("/posts?sort=id&page[size]=50")
    total = len(every)
    body = (await http.get("/posts?sort=id&page[offset]=3&page[limit]=7")).json()
    assert [one["id"] for one in body["data"]] == every[3:10]
    page = {"number": 1, "size": 7, "total": total, "pages": -(-total // 7)}
    assert body["meta"]["page"] == page | {"offset": 3, "limit": 7}

    async def at(name: str) -> list[str]:
        return await http.ids(body["links"][name].removeprefix("/api"))

    last = (total - 1) // 7 * 7
    assert await at("self") == every[3:10]
    assert await at("first") == every[:7]
    assert await at("prev") == every[:7]
    assert await at("next") == every[10:17]
    assert await at("last") == every[last:]
    found, url = [], "/posts?sort=id&page[limit]=9"
    while url:
        body = (await http.get(url)).json()
        found += [one["id"] for one in body["data"]]
        url = (body["links"]["next"] or "").removeprefix("/api")
    assert found == every
    body = (await http.get(f"/posts?sort=id&page[offset]={total + 50}")).json()
    assert body["data"] == []
    assert body["links"]["next"] is None
    assert await at("prev") == await at("last")
    for query, wrong in (
        ("page[offset]=1&page[size]=2", "page[size]"),
        ("page[limit]=1&page[number]=2", "page[number]"),
        ("page[offset]=-1", "page[offset]"),
        ("page[limit]=0", "page[limit]"),
        ("page[limit]=1000000", "page[limit]"),
    ):
        error(await http.get(f"/posts?{query}"), 400, "INVALID_PARAMETER", parameter=wrong)
