"""Tokens that are remembered prove what they proved, and no longer than they would."""

from __future__ import annotations

import time
from typing import Any

import jwt
import pytest

from tidings import AuthenticationError
from tidings.auth.tokens import TokenVerifier
from tidings.auth.verified import VerifiedTokens, _weight
from tidings.identity import Identity

SECRET = "a secret of the tests, which is long enough"


def token(**claims: Any) -> str:
    return jwt.encode({"sub": "7", **claims}, SECRET, "HS256")


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = time.time()
        monkeypatch.setattr("tidings.auth.verified.time.time", lambda: self.now)


async def test_a_token_is_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    verifier, decoded = TokenVerifier(secret=SECRET), []
    decode = jwt.decode
    monkeypatch.setattr(
        "tidings.auth.tokens.jwt.decode", lambda *a, **k: decoded.append(a) or decode(*a, **k)
    )
    text = token(exp=time.time() + 60)
    assert await verifier.verify(text) == await verifier.verify(text)
    assert len(decoded) == 1
    with pytest.raises(AuthenticationError):
        await verifier.verify(text[:-2])
    with pytest.raises(AuthenticationError):
        await verifier.verify(text[:-2])
    assert len(decoded) == 3, "what proves nothing is not remembered"


async def test_a_token_that_has_ended_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    verifier = TokenVerifier(secret=SECRET)
    text = token(exp=int(time.time()) + 2)
    await verifier.verify(text)
    found = verifier._verified.find(text)
    assert found is not None
    ends_at = found.identity.expires_at
    assert ends_at is not None
    monkeypatch.setattr("tidings.auth.verified.time.time", lambda: ends_at)
    assert verifier._verified.find(text) is None
    assert len(verifier._verified) == 0


def test_the_leeway_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, kept = Clock(monkeypatch), VerifiedTokens(5.0)
    key: Any = object()
    kept.put("a", Identity("7", expires_at=clock.now + 10), key, None)
    clock.now += 14.9
    assert kept.find("a") is not None
    clock.now += 0.1
    assert kept.find("a") is None


def test_what_is_remembered_is_bounded_in_bytes() -> None:
    one = _weight(Identity("1"))
    kept, key = VerifiedTokens(0.0, max_bytes=10 * one), object()
    for number in range(50):
        kept.put(f"{number:0100}", Identity(str(number)), key, None)  # type: ignore[arg-type]
    assert len(kept) == 10
    assert kept.find(f"{0:0100}") is None
    assert kept.find(f"{49:0100}") is not None
    for _ in range(3):
        kept.put("x" * 100, Identity("x"), key, None)  # type: ignore[arg-type]
    assert len(kept) == 10, "one token has one place"
    # Claims that are short as a text may be large: many small objects.
    large = Identity("y", claims={"rooms": [{"a": number} for number in range(100)]})
    kept.put("y" * 200, large, key, None)  # type: ignore[arg-type]
    assert len(kept) == 0
