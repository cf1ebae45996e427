"""The triggers of PostgreSQL: one per statement, which sees all of its rows.

Row by row instead where the same rows may be written again before the statement ends, by AFTER
triggers of the application's own or by a foreign key's CASCADE or SET NULL (PostgreSQL keeps no
order between such statements), and on partitions.
"""

from __future__ import annotations

from typing import Final

from tidings.storage.capture.triggers import (
    CAPTURED,
    LONG,
    MOST_LETTERS,
    TriggerSet,
    Watched,
    literal,
    quoted,
)

BULK: Final = 1_000
"""A statement that writes more rows is noted as one row: to refetch."""
_SETTINGS: Final = (
    "SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' "
    "SET datestyle = 'ISO, YMD' SET extra_float_digits = 1"
)
_FORMS: Final = {
    "hex": "encode({0}, 'hex')",
    # In microseconds; a month has 30 days, as when it is compared. The longest are left out.
    "duration": "CASE WHEN {0} BETWEEN INTERVAL '-999999999 days' AND INTERVAL '999999999 days' "
    "THEN CAST(1000000 * (extract(epoch FROM {0} - make_interval(0, CAST(12 * extract(year "
    "FROM {0}) + extract(month FROM {0}) AS integer))) + 2592000 * (12 * extract(year FROM {0}) "
    "+ extract(month FROM {0}))) AS numeric(30, 0)) END",
}
_NOW: Final = "extract(epoch FROM clock_timestamp())"


def postgresql_triggers(watched: Watched, home: str, *, by_row: bool) -> TriggerSet:
    """The triggers of a table; ``home`` is the schema of tidings' own tables."""
    table = quoted(watched.schema or home, watched.table)
    function = quoted(home, watched.name)
    body = _by_row(watched, home) if by_row else _by_statement(watched, home)
    create = [
        f"CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql {_SETTINGS} "
        f"AS $tidings${body}$tidings$",
        # Else whoever may make triggers could have it note what was never written.
        f"REVOKE ALL ON FUNCTION {function}() FROM PUBLIC",
    ]
    names = []
    if by_row:
        # By its name it comes before the application's own.
        names.append(f" {watched.name}_row")
        create.append(
            f"CREATE TRIGGER {quoted(names[-1])} AFTER INSERT OR UPDATE OR DELETE ON {table} "
            f"FOR EACH ROW EXECUTE FUNCTION {function}()"
        )
    else:
        tables = {
            "insert": "NEW TABLE AS tidings_new",
            "update": "OLD TABLE AS tidings_old NEW TABLE AS tidings_new",
            "delete": "OLD TABLE AS tidings_old",
        }
        for event, transition in tables.items():
            names.append(f" {watched.name}_{event}")
            create.append(
                f"CREATE TRIGGER {quoted(names[-1])} AFTER {event.upper()} ON {table} "
                f"REFERENCING {transition} FOR EACH STATEMENT EXECUTE FUNCTION {function}()"
            )
    names.append(f" {watched.name}_truncate")
    create.append(
        f"CREATE TRIGGER {quoted(names[-1])} AFTER TRUNCATE ON {table} FOR EACH STATEMENT "
        f"EXECUTE FUNCTION {function}()"
    )
    return TriggerSet(
        tuple(create),
        (f"DROP FUNCTION IF EXISTS {function}() CASCADE",),
        dict.fromkeys(names, body),
    )


def _by_row(watched: Watched, home: str) -> str:
    key = quoted(watched.key)
    target, source = quoted(home, CAPTURED), literal(watched.source)
    note = f"INSERT INTO {target} (tx, source, op, record, old_row, new_row, added) VALUES "
    old, new = _image(watched, "OLD"), _image(watched, "NEW")
    return f"""
#variable_conflict use_column
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        {_bulk(watched, home)};
    ELSIF TG_OP = 'INSERT' THEN
        {note}(txid_current(), {source}, 'i', left(NEW.{key}::text, 255), NULL, {new}, {_NOW});
    ELSIF TG_OP = 'DELETE' THEN
        {note}(txid_current(), {source}, 'd', left(OLD.{key}::text, 255), {old}, NULL, {_NOW});
    ELSIF OLD *<> NEW THEN
        {note}(txid_current(), {source}, 'u', left(NEW.{key}::text, 255), {old}, {new}, {_NOW});
    END IF;
    RETURN NULL;
END
"""


def _by_statement(watched: Watched, home: str) -> str:
    key = quoted(watched.key)
    target, source = quoted(home, CAPTURED), literal(watched.source)
    note = f"INSERT INTO {target} (tx, source, op, record, old_row, new_row, added) SELECT "
    old, new = _image(watched, "o"), _image(watched, "n")
    many = f"(SELECT count(*) FROM (SELECT 1 FROM {{}} LIMIT {BULK + 1}) AS first) > {BULK}"
    bulk = _bulk(watched, home)
    return f"""
#variable_conflict use_column
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        {bulk};
    ELSIF TG_OP = 'INSERT' THEN
        IF {many.format("tidings_new")} THEN
            {bulk};
        ELSE
            {note}txid_current(), {source}, 'i', left(n.{key}::text, 255), NULL, {new}, {_NOW}
            FROM tidings_new AS n;
        END IF;
    ELSIF TG_OP = 'DELETE' THEN
        IF {many.format("tidings_old")} THEN
            {bulk};
        ELSE
            {note}txid_current(), {source}, 'd', left(o.{key}::text, 255), {old}, NULL, {_NOW}
            FROM tidings_old AS o;
        END IF;
    ELSIF {many.format("tidings_new")} THEN
        {bulk};
    ELSE
        {note}txid_current(), {source},
            CASE WHEN o.{key} IS NULL THEN 'i' WHEN n.{key} IS NULL THEN 'd' ELSE 'u' END,
            left(coalesce(n.{key}, o.{key})::text, 255),
            CASE WHEN o.{key} IS NOT NULL THEN {old} END,
            CASE WHEN n.{key} IS NOT NULL THEN {new} END, {_NOW}
        FROM tidings_old AS o FULL JOIN tidings_new AS n ON n.{key} = o.{key}
        WHERE o.{key} IS NULL OR n.{key} IS NULL OR o *<> n;
    END IF;
    RETURN NULL;
END
"""


def _bulk(watched: Watched, home: str) -> str:
    return (
        f"INSERT INTO {quoted(home, CAPTURED)} (tx, source, op, added) "
        f"VALUES (txid_current(), {literal(watched.source)}, 'b', {_NOW})"
    )


def _is_long(name: str, row: str) -> str:
    return f"length({row}.{quoted(name)}::text) > {MOST_LETTERS}"


def _value(watched: Watched, name: str, row: str) -> str:
    column = f"{row}.{quoted(name)}"
    form = watched.forms.get(name)
    value = column if form is None else _FORMS[form].format(column)
    if name not in watched.longs:
        return value
    return f"CASE WHEN {_is_long(name, row)} THEN NULL ELSE {value} END"


def _image(watched: Watched, row: str) -> str:
    shown = [f"{_value(watched, name, row)} AS {quoted(name)}" for name in watched.columns]
    if watched.longs:
        names = ", ".join(
            f"CASE WHEN {_is_long(name, row)} THEN {literal(name + '|')} END"
            for name in watched.columns
            if name in watched.longs
        )
        shown.append(f"concat({names}) AS {quoted(LONG)}")
    columns = ", ".join(shown)
    # Not jsonb: a NUL in a JSON text would make the writer's own statement fail.
    return f"(SELECT row_to_json(image)::text FROM (SELECT {columns}) AS image)"
