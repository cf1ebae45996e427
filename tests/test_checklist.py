"""Where each line of the guide's checklist (a1 to a9) is shown.

A line is shown by the tests whose names begin with it (``test_a3_39_...``), or by those listed
here; a line that is not shown says why.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
LINES = {
    "a1": range(1, 12),
    "a2": range(12, 21),
    "a3": range(21, 43),
    "a4": range(43, 45),
    "a5": range(45, 50),
    "a6": range(50, 63),
    "a7": range(63, 71),
    "a8": range(71, 86),
    "a9": range(86, 97),
}

ELSEWHERE = {
    1: ["test_a_missing_driver_says_what_to_install"],
    2: ["test_a_plugin_needs_its_dependencies_first", "test_sockets_need_a_database_and_tokens"],
    3: ["test_start_socket_server_on_the_apis_own_app", "test_the_socket_server_is_started_once"],
    4: ["test_prefix_and_socket_path_of_the_plugins", "test_start_socket_server_on_fastapi"],
    5: [
        "test_origins_are_held_to_the_list_on_both_transports",
        "test_cors_headers_are_not_doubled",
    ],
    6: [
        "test_the_options_of_the_guide_are_taken_as_they_are",
        "test_a_log_is_where_the_options_say",
    ],
    7: ["test_a2_18_a_polling_client_is_upgraded_to_websocket"],
    8: ["test_the_socket_server_is_started_once"],
    10: ["test_debug_log_follows_a_change_and_is_silent_by_default"],
    61: [
        "test_a_write_at_one_reaches_the_sockets_of_both_once",
        "test_a_write_reaches_the_sockets_of_every_process_once",
        "test_outages_of_redis_lose_nothing",
    ],
    65: ["test_changes_are_published_at_the_end_in_order"],
    66: ["test_a_savepoint_that_rolls_back_drops_its_part", "test_savepoints_inside_savepoints"],
    67: ["test_a_commit_that_fails_sends_nothing", "test_a_deferred_constraint_that_fails"],
    68: ["test_closing_without_commit_sends_nothing_and_frees_everything"],
    69: ["test_a_session_sends_at_commit_and_not_before", "test_connection_commit_sends"],
    72: ["test_sql_and_python_select_the_same_records"],
    74: ["test_like_is_contains_without_case_or_wildcards"],
    75: ["test_wrong_values"],
    76: ["test_lists"],
    77: ["test_null_matches_only_what_asks_for_it"],
    78: ["test_numbers_at_the_edges", "test_ids_are_compared_as_their_column"],
    79: ["test_a_custom_filter_on_both_sides", "test_wrong_filters"],
    80: ["test_values_of_a_query_string"],
    81: ["test_a_custom_filter_on_both_sides"],
    82: ["test_a_failing_custom_filter_is_no_match_and_logged_once"],
    83: ["test_filter_by_related_id"],
    84: ["test_wrong_filters"],
    91: ["test_reads_see_the_tenant_only", "test_subscriptions_hear_of_the_tenant_only"],
    92: ["test_who_may_no_longer_query_gets_one_resync", "test_permissions_changed_counts_at_once"],
    93: ["test_it_cannot_be_asked_about", "test_subscriptions_are_refused_as_well"],
    96: ["test_too_many_messages_are_answered_and_do_nothing"],
}

NOT_YET = {
    70: "there are no bulk operations yet; a transaction of several writes is lines 65 and 63",
}


def _names() -> set[str]:
    """The names of all tests there are."""
    names: set[str] = set()
    for path in TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                names.add(node.name)
    return names


NAMES = _names()


@pytest.mark.parametrize(
    "line", [f"{part}_{number}" for part, numbers in LINES.items() for number in numbers]
)
def test_line_is_shown(line: str) -> None:
    number = int(line.partition("_")[2])
    named = [name for name in NAMES if re.match(rf"test_{line}_", name)]
    listed = ELSEWHERE.get(number, [])
    missing = [start for start in listed if not any(name.startswith(start) for name in NAMES)]
    assert not missing
    if number in NOT_YET:
        pytest.skip(NOT_YET[number])
    assert named or listed
