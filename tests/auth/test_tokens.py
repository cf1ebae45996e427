"""A token proves who somebody is, or is refused with a fixed message."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import time

import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidings.auth import TokenVerifier
from tidings.errors import AuthenticationError, ConfigurationError
from tidings.identity import Identity

pytestmark = pytest.mark.anyio

SECRET = "a-secret-of-the-tests-" + "x" * 42
FAR = 4_000_000_000


def encode(claims, key=SECRET, algorithm="HS256", **headers) -> str:
    return jwt.encode(claims, key, algorithm, headers=headers or None)


def segment(data: object) -> str:
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def by_hand(header: object, payload: object = None, key: bytes = SECRET.encode()) -> str:
    """A token that PyJWT would not make, rightly signed with HMAC-SHA256."""
    signed = f"{segment(header)}.{segment(payload)}"
    return f"{signed}.{segment(hmac.digest(key, signed.encode(), hashlib.sha256))}"


async def refusal(verifier: TokenVerifier, token: object) -> tuple[str, str]:
    with pytest.raises(AuthenticationError) as caught:
        await verifier.verify(token)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return caught.value.code, str(caught.value)


json_values = st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.text())
INVALID = ("INVALID_TOKEN", "Invalid authentication token")
KNOWN_REFUSALS = {
    INVALID,
    ("AUTHENTICATION_REQUIRED", "Authentication required"),
    ("TOKEN_EXPIRED", "Token expired"),
    ("TOKEN_NOT_YET_VALID", "Token not yet valid"),
    ("TOKEN_AUDIENCE", "Token has the wrong audience"),
    ("TOKEN_ALGORITHM", "Token algorithm not allowed"),
}


async def test_verify_gives_the_identity_that_the_claims_state():
    claims = {
        "sub": "7",
        "roles": ["editor", "author"],
        "permissions": "read write",
        "exp": FAR,
        "workspace_id": 3,
    }
    identity = await TokenVerifier(secret=SECRET).verify(encode(claims))
    assert identity == Identity(
        "7",
        frozenset({"editor", "author"}),
        frozenset({"read", "write"}),
        claims,
        float(FAR),
    )
    assert isinstance(identity.expires_at, float)
    assert identity.workspace_id == 3
    with pytest.raises(TypeError):
        identity.claims["sub"] = "8"


async def test_verify_gives_equal_identities_for_the_same_token():
    verifier, token = TokenVerifier(secret=SECRET.encode()), encode({"sub": "7", "a": [1]})
    assert await verifier.verify(token) == await verifier.verify(token)


async def test_verify_without_exp_roles_and_permissions():
    identity = await TokenVerifier(secret=SECRET).verify(encode({"sub": "7"}))
    assert identity.expires_at is None
    assert identity.roles == identity.permissions == frozenset()


@pytest.mark.parametrize("token", [None, ""])
async def test_verify_without_a_token(token):
    refused = await refusal(TokenVerifier(secret=SECRET), token)
    assert refused == ("AUTHENTICATION_REQUIRED", "Authentication required")


@pytest.mark.parametrize("token", [0, 1, 1.5, True, False, [], ["a.b.c"], {}, {"a": 1}, b"a.b.c"])
async def test_verify_refuses_what_is_no_string(token):
    assert await refusal(TokenVerifier(secret=SECRET), token) == INVALID


@pytest.mark.parametrize(
    "token",
    [
        " ",
        "null",
        "a",
        "a.b",
        "a.b.c",
        "..",
        "a.b.c.d",
        "Bearer x",
        "é.é.é",
        "\ud800",
        "\x00" * 9,
        "!!!.???.***",
        "." * 100,
    ],
)
async def test_verify_refuses_garbage(token):
    assert await refusal(TokenVerifier(secret=SECRET), token) == INVALID


@pytest.mark.parametrize("payload", [None, 1, "x", [], True, 1.5, b"{", b"\xff", b"[" * 9000])
async def test_verify_refuses_a_payload_that_is_no_object(payload):
    token = by_hand({"alg": "HS256", "typ": "JWT"}, payload)
    assert await refusal(TokenVerifier(secret=SECRET), token) == INVALID


@pytest.mark.parametrize("header", [None, 1, "x", [], True, b"{", b"\xff", b"[" * 9000])
async def test_verify_refuses_a_header_that_is_no_object(header):
    assert await refusal(TokenVerifier(secret=SECRET), by_hand(header, {"sub": "7"})) == INVALID


@pytest.mark.parametrize("extra", [{"kid": 5}, {"crit": ["x"], "x": 1}, {"b64": False}])
async def test_verify_refuses_headers_it_does_not_understand(extra):
    token = by_hand({"alg": "HS256"} | extra, {"sub": "7"})
    assert await refusal(TokenVerifier(secret=SECRET), token) == INVALID


@pytest.mark.parametrize("alg", [None, "", "none", "None", "hs256", "HS512", "RS256", 5, [], {}])
async def test_verify_refuses_other_algorithms(alg):
    token = by_hand({"alg": alg}, {"sub": "7"})
    expected = ("TOKEN_ALGORITHM", "Token algorithm not allowed")
    assert await refusal(TokenVerifier(secret=SECRET), token) == expected


async def test_verify_refuses_an_unsigned_token(keys):
    unsigned = f"{segment({'alg': 'none'})}.{segment({'sub': '7'})}."
    for verifier in (TokenVerifier(secret=SECRET), TokenVerifier(public_key=keys.pem(keys.rsa))):
        assert (await refusal(verifier, unsigned))[0] == "TOKEN_ALGORITHM"
        assert (await refusal(verifier, jwt.encode({"sub": "7"}, None, "none")))[0] == (
            "TOKEN_ALGORITHM"
        )


async def test_verify_refuses_a_token_signed_with_the_public_key_as_secret(keys):
    pem = keys.pem(keys.rsa)
    forged = by_hand({"alg": "HS256", "typ": "JWT"}, {"sub": "7"}, pem.encode())
    assert (await refusal(TokenVerifier(public_key=pem), forged))[0] == "TOKEN_ALGORITHM"
    relabelled = by_hand({"alg": "RS256", "typ": "JWT"}, {"sub": "7"}, pem.encode())
    assert await refusal(TokenVerifier(public_key=pem), relabelled) == INVALID


async def test_verify_refuses_a_wrong_secret_and_a_changed_payload():
    verifier = TokenVerifier(secret=SECRET)
    assert await refusal(verifier, encode({"sub": "7"}, SECRET + "y")) == INVALID
    head, _, signature = encode({"sub": "7"}).split(".")
    assert await refusal(verifier, f"{head}.{segment({'sub': '1'})}.{signature}") == INVALID
    assert await refusal(verifier, f"{head}.{segment({'sub': '7'})}.") == INVALID


@settings(deadline=None)
@given(
    st.one_of(
        st.text(),
        st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists),
        st.builds(by_hand, st.dictionaries(st.sampled_from(["alg", "kid", "b64"]), json_values)),
        st.builds(
            by_hand,
            st.just({"alg": "HS256"}),
            st.dictionaries(st.sampled_from(["exp", "nbf", "aud", "roles", "x"]), json_values),
        ),
    )
)
def test_verify_never_fails_in_another_way(token):
    code, message = asyncio.run(refusal(TokenVerifier(secret=SECRET), token))
    assert (code, message) in KNOWN_REFUSALS


@settings(deadline=None)
@given(st.data())
def test_verify_refuses_a_token_with_any_one_character_changed(data):
    token = encode({"sub": "7", "roles": ["editor"]})
    place = data.draw(st.integers(0, len(token) - 1))
    character = data.draw(st.characters().filter(lambda c: c != token[place]))
    changed = token[:place] + character + token[place + 1 :]
    code, _ = asyncio.run(refusal(TokenVerifier(secret=SECRET), changed))
    assert code in {"INVALID_TOKEN", "TOKEN_ALGORITHM"}


async def test_verify_with_public_keys_of_each_type(keys):
    for key, algorithm in ((keys.rsa, "RS256"), (keys.ec, "ES256"), (keys.ed, "EdDSA")):
        token = encode({"sub": "7"}, key, algorithm)
        for form in (keys.pem(key), keys.pem(key).encode(), key.public_key()):
            assert (await TokenVerifier(public_key=form).verify(token)).user_id == "7"
    assert (
        await refusal(
            TokenVerifier(public_key=keys.pem(keys.rsa_2)), encode({"sub": "7"}, keys.rsa, "RS256")
        )
        == INVALID
    )


async def test_verify_with_a_pyjwk_accepts_its_algorithm_only(keys):
    verifier = TokenVerifier(public_key=jwt.PyJWK(keys.jwk(keys.rsa, alg="PS256")))
    assert (await verifier.verify(encode({"sub": "7"}, keys.rsa, "PS256"))).user_id == "7"
    other = encode({"sub": "7"}, keys.rsa, "RS256")
    assert (await refusal(verifier, other))[0] == "TOKEN_ALGORITHM"


async def test_verify_accepts_only_the_algorithms_named(keys):
    verifier = TokenVerifier(public_key=keys.pem(keys.rsa), algorithms=["RS512"])
    assert await verifier.verify(encode({"sub": "7"}, keys.rsa, "RS512"))
    other = encode({"sub": "7"}, keys.rsa, "RS256")
    assert (await refusal(verifier, other))[0] == "TOKEN_ALGORITHM"


async def test_verify_times():
    now = time.time()
    verifier = TokenVerifier(secret=SECRET)
    lenient = TokenVerifier(secret=SECRET, leeway=60)
    expired = encode({"sub": "7", "exp": now - 30})
    assert await refusal(verifier, expired) == ("TOKEN_EXPIRED", "Token expired")
    assert (await lenient.verify(expired)).expires_at == now - 30
    assert (await refusal(lenient, encode({"sub": "7", "exp": now - 90})))[0] == "TOKEN_EXPIRED"
    for claim in ("nbf", "iat"):
        early = encode({"sub": "7", claim: now + 30})
        not_yet = ("TOKEN_NOT_YET_VALID", "Token not yet valid")
        assert await refusal(verifier, early) == not_yet
        assert await lenient.verify(early)
        assert await refusal(lenient, encode({"sub": "7", claim: now + 90})) == not_yet


@pytest.mark.parametrize("claim", ["exp", "nbf", "iat"])
@pytest.mark.parametrize("value", ["never", None, [], {}, float("nan"), float("inf"), [FAR]])
async def test_verify_refuses_times_that_are_no_numbers(claim, value):
    assert await refusal(TokenVerifier(secret=SECRET), encode({"sub": "7", claim: value})) == (
        INVALID
    )


@pytest.mark.parametrize("claim", [{"exp": str(FAR)}, {"nbf": "1000"}, {"iat": "1000"}])
async def test_verify_refuses_times_written_as_text(claim):
    assert await refusal(TokenVerifier(secret=SECRET), encode({"sub": "7"} | claim)) == INVALID


async def test_verify_refuses_numbers_beyond_all_measure():
    verifier = TokenVerifier(secret=SECRET)
    assert await refusal(verifier, encode({"sub": "7", "exp": 10**400})) == INVALID
    assert await refusal(verifier, encode({"sub": "7", "iat": True})) == INVALID


@pytest.mark.parametrize("configured", ["api", ["api", "other"], ("other", "api")])
@pytest.mark.parametrize("aud", ["api", ["api"], ["x", "api"]])
async def test_verify_accepts_the_audience(configured, aud):
    verifier = TokenVerifier(secret=SECRET, audience=configured)
    assert await verifier.verify(encode({"sub": "7", "aud": aud}))


@pytest.mark.parametrize("aud", ["x", "ap", "apis", "", [], ["x"], ["api", 5], 5, {"api": 1}, None])
async def test_verify_refuses_other_audiences(aud):
    expected = ("TOKEN_AUDIENCE", "Token has the wrong audience")
    token = encode({"sub": "7", "aud": aud})
    assert await refusal(TokenVerifier(secret=SECRET, audience="api"), token) == expected
    assert await refusal(TokenVerifier(secret=SECRET), token) == expected


async def test_verify_refuses_a_token_without_audience_where_one_is_configured():
    verifier = TokenVerifier(secret=SECRET, audience="api")
    assert (await refusal(verifier, encode({"sub": "7"})))[0] == "TOKEN_AUDIENCE"


async def test_verify_checks_the_issuer():
    token = encode({"sub": "7", "iss": "https://id"})
    for issuer in ("https://id", ["https://x", "https://id"]):
        assert await TokenVerifier(secret=SECRET, issuer=issuer).verify(token)
    assert await TokenVerifier(secret=SECRET).verify(token)
    verifier = TokenVerifier(secret=SECRET, issuer="https://id/long")
    expected = ("TOKEN_ISSUER", "Token has the wrong issuer")
    assert await refusal(verifier, token) == expected
    assert await refusal(verifier, encode({"sub": "7"})) == expected
    for iss in (None, 5, ["https://id/long"], {}):
        assert await refusal(verifier, by_hand({"alg": "HS256"}, {"sub": "7", "iss": iss})) == (
            expected
        )


@pytest.mark.parametrize(("sub", "user_id"), [("abc", "abc"), (7, "7"), (0, "0"), ("0", "0")])
async def test_verify_makes_the_user_id_a_string(sub, user_id):
    identity = await TokenVerifier(secret=SECRET).verify(encode({"sub": sub}))
    assert identity.user_id == user_id


@pytest.mark.parametrize("sub", [None, "", True, False, 1.5, [], ["7"], {}])
async def test_verify_refuses_other_user_ids(sub):
    assert await refusal(TokenVerifier(secret=SECRET), encode({"sub": sub})) == INVALID


async def test_verify_refuses_a_token_without_the_user_id():
    assert await refusal(TokenVerifier(secret=SECRET), encode({"roles": ["a"]})) == INVALID
    verifier = TokenVerifier(secret=SECRET, user_id_claim="uid")
    assert await refusal(verifier, encode({"sub": "7"})) == INVALID


@pytest.mark.parametrize("claim", ["roles", "permissions"])
@pytest.mark.parametrize("value", [None, 5, True, {}, {"a": 1}, [1], ["a", None], [["a"]]])
async def test_verify_refuses_roles_and_permissions_of_other_types(claim, value):
    assert await refusal(TokenVerifier(secret=SECRET), encode({"sub": "7", claim: value})) == (
        INVALID
    )


async def test_verify_finds_claims_by_path_and_by_their_whole_name():
    verifier = TokenVerifier(
        secret=SECRET,
        user_id_claim="user.id",
        roles_claim="realm_access.roles",
        permissions_claim="https://example.com/permissions",
    )
    claims = {
        "user": {"id": 7},
        "realm_access": {"roles": ["editor"]},
        "https://example.com/permissions": ["read"],
    }
    identity = await verifier.verify(encode(claims))
    assert identity.user_id == "7"
    assert identity.roles == {"editor"}
    assert identity.permissions == {"read"}
    assert (await verifier.verify(encode({"user": {"id": 7}, "realm_access": {}}))).roles == set()
    assert (await verifier.verify(encode({"user": {"id": 7}}))).roles == set()
    for wrong in ({"user": 7}, {"user": {"id": 7}, "realm_access": ["roles"]}):
        assert await refusal(verifier, encode(wrong)) == INVALID


async def test_verify_refuses_a_token_over_16_kib():
    verifier = TokenVerifier(secret=SECRET)
    assert await verifier.verify(encode({"sub": "7", "x": "y" * 12_000}))
    assert await refusal(verifier, encode({"sub": "7", "x": "y" * 13_000})) == INVALID


async def test_verify_logs_the_reason_without_token_and_secret(caplog):
    caplog.set_level(logging.DEBUG, "tidings.auth")
    token = encode({"sub": "7"}, SECRET + "y")
    await refusal(TokenVerifier(secret=SECRET), token)
    assert "Signature verification failed" in caplog.text
    assert SECRET not in caplog.text
    assert not any(part in caplog.text for part in token.split("."))


async def test_verify_logs_on_one_line(caplog):
    caplog.set_level(logging.DEBUG, "tidings.auth")
    forged = by_hand({"alg": "HS256", "crit": ["a\nFORGED LINE"]}, {"sub": "7"})
    await refusal(TokenVerifier(secret=SECRET), forged)
    assert "FORGED" in caplog.text
    assert "\nFORGED" not in caplog.text


def test_repr_shows_no_secret(keys):
    assert SECRET not in repr(TokenVerifier(secret=SECRET))
    assert SECRET not in repr(vars(TokenVerifier(secret=SECRET)))
    assert "MII" not in repr(TokenVerifier(public_key=keys.pem(keys.rsa)))
    shown = repr(TokenVerifier(jwks_url="https://id.example/jwks?key=hidden", audience="api"))
    assert "hidden" not in shown
    assert "https://id.example/jwks" in shown
    assert "api" in shown


def test_exactly_one_source_of_keys(keys):
    url = "https://id.example/jwks"
    for sources in ({}, {"secret": SECRET, "jwks_url": url}, {"secret": None}):
        with pytest.raises(ConfigurationError, match="exactly one of secret, public_key and jwks"):
            TokenVerifier(**sources)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"secret": ""}, "HS256 needs at least 32"),
        ({"secret": "x" * 31}, "is 31 bytes long; HS256 needs at least 32"),
        ({"secret": "x" * 47, "algorithms": ["HS256", "HS384"]}, "HS384 needs at least 48"),
        ({"secret": "x" * 63, "algorithms": "HS512"}, "HS512 needs at least 64"),
        ({"secret": 5}, "must be str or bytes, not int"),
        ({"secret": SECRET, "algorithms": []}, "algorithms is empty"),
        ({"secret": SECRET, "algorithms": ["none"]}, "never allowed"),
        ({"secret": SECRET, "algorithms": ["HS256", "NONE"]}, "never allowed"),
        ({"secret": SECRET, "algorithms": ["RS256"]}, "needs public_key= or jwks_url="),
        ({"secret": SECRET, "algorithms": ["hs256"]}, "did you mean 'HS256'"),
        ({"secret": SECRET, "algorithms": [None]}, "never allowed"),
        ({"secret": SECRET, "leeway": -1}, "leeway must be"),
        ({"secret": SECRET, "leeway": float("inf")}, "leeway must be"),
        ({"secret": SECRET, "leeway": "5"}, "leeway must be"),
        ({"secret": SECRET, "audience": ""}, "audience must be"),
        ({"secret": SECRET, "audience": []}, "audience must be"),
        ({"secret": SECRET, "issuer": ["a", None]}, "issuer must be"),
        ({"secret": SECRET, "roles_claim": ""}, "claim's name"),
        ({"secret": SECRET, "user_id_claim": None}, "claim's name"),
        ({"public_key": "not a key"}, "cannot be read"),
        ({"public_key": ""}, "cannot be read"),
        ({"public_key": b"\xff\xfe"}, "cannot be read"),
        ({"public_key": object()}, "cannot be read"),
        ({"public_key": jwt.PyJWK({"kty": "oct", "k": segment(b"x" * 32)})}, "cannot be read"),
        ({"jwks_url": "https://x/", "algorithms": ["HS256"]}, "must not be used with a public key"),
        ({"jwks_url": "https://x/", "algorithms": ["none"]}, "never allowed"),
        ({"jwks_url": "file:///etc/passwd"}, "https://host/path"),
        ({"jwks_url": "ftp://x/"}, "https://host/path"),
        ({"jwks_url": "https://"}, "https://host/path"),
        ({"jwks_url": ""}, "https://host/path"),
        ({"jwks_url": 5}, "must be str"),
        ({"jwks_url": "https://user:pw@x/"}, "must not hold a user or password"),
    ],
)
def test_unsafe_settings_are_refused(settings, message):
    with pytest.raises(ConfigurationError, match=message) as caught:
        TokenVerifier(**settings)
    assert SECRET not in str(caught.value)
    assert "pw" not in str(caught.value)


def test_public_keys_that_cannot_be_used_are_refused(keys):
    rsa = keys.pem(keys.rsa)
    for given_settings, message in (
        ({"public_key": rsa, "algorithms": ["HS256"]}, "must not be used with a public key"),
        ({"public_key": rsa, "algorithms": ["RS256", "HS256"]}, "must not be used with a public"),
        ({"public_key": rsa, "algorithms": ["none"]}, "never allowed"),
        ({"public_key": rsa, "algorithms": ["ES256"]}, "does not fit the public key"),
        ({"public_key": keys.pem(keys.ec), "algorithms": ["ES384"]}, "does not fit"),
        ({"public_key": keys.private_pem(keys.rsa)}, "private key"),
        ({"public_key": keys.private_pem(keys.ec)}, "private key"),
        ({"public_key": keys.ed}, "private key"),
        ({"public_key": keys.pem(keys.rsa_weak)}, "at least 2048 bits"),
        ({"secret": rsa}, "is a PEM, SSH or JWK key"),
        ({"secret": json.dumps(keys.jwk(keys.ec))}, "is a PEM, SSH or JWK key"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            TokenVerifier(**given_settings)
