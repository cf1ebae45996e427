"""Writes the page of the Python API from the docstrings of all names in ``tidings.__all__``.

python scripts/reference.py docs/reference/index.md
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

import griffe


def main(target: Path) -> None:
    """Write the page to ``target``."""
    package = griffe.load("tidings", search_paths=["src"], docstring_parser="google")
    names = sorted(set(package.exports or ()) - {"__version__"})
    objects = {str(name): package[str(name)].final_target for name in names}
    lines = [
        "# Python API",
        "",
        "Generated from the docstrings. Import each name from `tidings`.",
        "",
    ]
    for title in ("Plugins", "Errors", "Everything else"):
        lines += [f"## {title}", ""]
        for name, found in objects.items():
            if group_of(name, found) == title:
                lines += entry(name, found)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")


def group_of(name: str, found: griffe.Object) -> str:
    """The heading that a name stands under."""
    if found.path.startswith("tidings.errors."):
        return "Errors"
    return "Plugins" if name.endswith("Plugin") and name != "Plugin" else "Everything else"


def entry(name: str, found: griffe.Object, level: int = 3) -> list[str]:
    """A heading, the signature, the docstring, and the same for public members of a class."""
    lines = ["#" * level + f" {name}", ""]
    if isinstance(found, griffe.Class):
        lines += code(signature(found.name, found.parameters))
    elif isinstance(found, griffe.Function):
        lines += code(signature(found.name, found.parameters, found.returns))
    lines += described(found)
    if isinstance(found, griffe.Class):
        for member in found.members.values():
            if isinstance(member, griffe.Function) and is_shown(member):
                lines += entry(f"{name}.{member.name}", member, level + 1)
    return lines


def is_shown(member: griffe.Function) -> bool:
    return not member.name.startswith("_") and member.docstring is not None


def signature(name: str, parameters: griffe.Parameters, returns: object = None) -> str:
    given = [one for one in parameters if one.name not in ("self", "cls")]
    parts = []
    for one in given:
        if one.kind is griffe.ParameterKind.keyword_only and "*" not in parts:
            parts.append("*")
        star = {"variadic positional": "*", "variadic keyword": "**"}.get(
            one.kind.value if one.kind else "", ""
        )
        typed = f": {one.annotation}" if one.annotation else ""
        default = f" = {one.default}" if one.default and not star else ""
        parts.append(f"{star}{one.name}{typed}{default}")
    listed = ", ".join(parts)
    if len(listed) > 70:
        listed = "\n" + "".join(f"    {part},\n" for part in parts)
    return f"{name}({listed})" + (f" -> {returns}" if returns else "")


def code(text: str) -> list[str]:
    return ["```python", text, "```", ""]


def described(found: griffe.Object) -> list[str]:
    """The docstring as Markdown: its text, then its parameters and what it raises as lists."""
    if found.docstring is None:
        return []
    lines: list[str] = []
    for section in found.docstring.parsed:
        if section.kind is griffe.DocstringSectionKind.text:
            lines += [inspect.cleandoc(section.value), ""]
        elif section.kind in (
            griffe.DocstringSectionKind.parameters,
            griffe.DocstringSectionKind.attributes,
        ):
            lines += [f"- `{one.name}`: {one_line(one.description)}" for one in section.value] + [
                ""
            ]
        elif section.kind is griffe.DocstringSectionKind.raises:
            lines += ["Raises:", ""]
            lines += [f"- `{one.annotation}`: {one_line(one.description)}" for one in section.value]
            lines += [""]
    return lines


def one_line(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
