"""A traceback in two lines."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from tidings import ConfigurationError
from tidings.failing import condensed, failure, wants_traceback

HINT = "(TIDINGS_TRACEBACK=1 shows all of it)"


def text_of(function: Callable[[], object]) -> str:
    try:
        function()
    except Exception as error:
        return "".join(traceback.format_exception(error))
    raise AssertionError("it did not fail")


def theirs(folder: Path, source: str) -> Callable[[], object]:
    """A function in an application's own file."""
    path = folder / "theirs.py"
    path.write_text(source)
    namespace: dict[str, Callable[[], object]] = {}
    exec(compile(source, str(path), "exec"), namespace)
    return namespace["f"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_error_and_the_last_place_in_their_own_code(tmp_path: Path) -> None:
    fails = theirs(tmp_path, "import json\n\ndef f():\n    return json.loads('{')\n")
    said = condensed(text_of(fails)).splitlines()
    assert said[0].startswith("json.decoder.JSONDecodeError: Expecting property name")
    assert said[1] == f"  theirs.py, line 4: return json.loads('{{') {HINT}"


def test_of_several_errors_the_last(tmp_path: Path) -> None:
    source = """
def f():
    try:
        1 / 0
    except ZeroDivisionError:
        raise KeyError("a")
"""
    said = condensed(text_of(theirs(tmp_path, source)))
    assert said == f"KeyError: 'a'\n  theirs.py, line 6: raise KeyError(\"a\") {HINT}"


def test_a_message_of_several_lines_is_its_first(tmp_path: Path) -> None:
    source = """
def f():
    raise ValueError("first\\nRuntimeError: second\\n  third")
"""
    said = condensed(text_of(theirs(tmp_path, source))).splitlines()
    assert said[0] == "ValueError: first"
    assert len(said) == 2


def test_a_message_that_never_ends_is_cut(tmp_path: Path) -> None:
    said = condensed(text_of(theirs(tmp_path, "def f():\n    raise ValueError('x' * 10_000)\n")))
    assert len(said) < 600


def test_an_error_without_a_message(tmp_path: Path) -> None:
    said = condensed(text_of(theirs(tmp_path, "def f():\n    assert 1 == 2\n")))
    assert said.splitlines()[0] == "AssertionError"


def test_code_that_cannot_be_read(tmp_path: Path) -> None:
    said = condensed(text_of(lambda: theirs(tmp_path, "x = = 1\n")))
    assert said == f"SyntaxError: invalid syntax\n  theirs.py, line 1: x = = 1 {HINT}"


def test_several_errors_at_once(tmp_path: Path) -> None:
    source = "def f():\n    raise ExceptionGroup('two', [ValueError('a'), KeyError('b')])\n"
    said = condensed(text_of(theirs(tmp_path, source)))
    assert len(said.splitlines()) <= 2
    assert "two (2 sub-exceptions)" in said


def test_an_error_of_tidings_says_what_to_do_by_itself(tmp_path: Path) -> None:
    source = "from tidings import ConfigurationError\n\ndef f():\n"
    source += "    raise ConfigurationError('use the SqlAlchemyPlugin')\n"
    assert condensed(text_of(theirs(tmp_path, source))) == "use the SqlAlchemyPlugin"


def test_what_is_no_traceback_is_left_alone() -> None:
    assert condensed("Error: 3 files\n\nand more") == "Error: 3 files\n\nand more"


def test_without_a_place_of_theirs_there_is_none() -> None:
    error = failure(ConfigurationError("no"), "it failed")
    assert error.message == "it failed: no"
    assert failure(ValueError("no")).message == f"ValueError: no\n  {HINT}"


@pytest.mark.parametrize(("value", "wanted"), [("1", True), ("0", False), ("", False)])
def test_whole_tracebacks_are_asked_for(
    value: str, wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDINGS_TRACEBACK", value)
    assert wants_traceback() is wanted
