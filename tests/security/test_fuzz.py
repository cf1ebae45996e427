"""Thousands of hostile frames and requests; `tests.security.fuzz` sends 100,000 of each."""

from __future__ import annotations

import os

import pytest

from tests.security.fuzz import Failure, fuzz, is_flat

SEED = os.environ.get("TIDINGS_FUZZ_SEED", "20261123")
COUNT = 3_000


async def test_hostile_frames_and_requests_do_no_harm() -> None:
    result = await fuzz(SEED, COUNT, COUNT)
    assert is_flat(result), str(result)
    assert result.frames >= COUNT - 20
    assert result.requests >= COUNT - 20
    # The fuzzer must come near enough to the mark to mean something.
    assert result.statuses.keys() >= {200, 201, 400, 401, 403, 404, 405, 409, 415, 422}
    assert result.codes.keys() >= {
        "success",
        "INVALID_FILTERS",
        "INVALID_DATA",
        "INVALID_SUBSCRIPTION",
        "PERMISSION_DENIED",
        "SUBSCRIPTION_NOT_FOUND",
        "UNSUPPORTED_OPTION",
    }
    assert result.codes["success"] > COUNT / 20, str(result)


@pytest.mark.parametrize("fault", ["http", "socket", "silence"])
async def test_the_fuzzer_finds_a_fault(fault: str) -> None:
    with pytest.raises(Failure):
        await fuzz("fault", 1_500, 1_500, fault=fault)
