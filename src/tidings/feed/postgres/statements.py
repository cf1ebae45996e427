"""The statements of a log in PostgreSQL.

$1 is the feed's name. Where it is asked whether the state can be trusted, $2 is the server's mark,
and $3 and $4 are the newest place that this process has seen.
"""
# ruff: noqa: S608 - nothing in them comes from outside of this module.

from __future__ import annotations

from typing import Final

TABLES: Final = """
CREATE TABLE IF NOT EXISTS tidings_feed_state (
    name text COLLATE "C" PRIMARY KEY,
    epoch text NOT NULL,
    "offset" bigint NOT NULL,
    mark text NOT NULL
) WITH (fillfactor = 50);
CREATE TABLE IF NOT EXISTS tidings_feed (
    name text COLLATE "C",
    "offset" bigint,
    entry bytea NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (name, "offset")
);
CREATE TABLE IF NOT EXISTS tidings_feed_keys (
    name text COLLATE "C",
    key bytea,
    at timestamptz NOT NULL,
    PRIMARY KEY (name, key)
);
"""
"""What the log needs in its database; it creates them where it may and they are missing."""

# The state's table may have been restored from a dump: then it is another file.
_MARK: Final = "$2::text || pg_relation_filenode('tidings_feed_state'::regclass)"
_IS_TRUSTED: Final = (
    f"""(state.mark = {_MARK} AND NOT (state.epoch = $3 AND state."offset" < $4))"""
)

# Each part needs what the one before it returns, so that the row is taken first. What others have
# committed meanwhile is seen nonetheless: by FOR UPDATE, which waits for it, and by ON CONFLICT.
APPEND: Final = f"""
WITH place AS MATERIALIZED (
    SELECT epoch, "offset" FROM tidings_feed_state AS state
    WHERE name = $1 AND {_IS_TRUSTED} FOR UPDATE
), batches AS (
    INSERT INTO tidings_feed_keys (name, key, at)
    SELECT $1, given.key, clock_timestamp() FROM place, unnest($5::bytea[]) AS given (key)
    ON CONFLICT DO NOTHING
    RETURNING key
), entries AS MATERIALIZED (
    SELECT row_number() OVER (ORDER BY given.number) AS step, given.entry
    FROM batches JOIN unnest($6::bytea[], $7::bytea[]) WITH ORDINALITY
        AS given (key, entry, number) USING (key)
), counted AS MATERIALIZED (
    SELECT count(*) AS steps FROM entries
), moved AS (
    UPDATE tidings_feed_state SET "offset" = "offset" + (SELECT steps FROM counted)
    WHERE name = $1 AND (SELECT steps FROM counted) > 0
), written AS (
    INSERT INTO tidings_feed (name, "offset", entry, at)
    SELECT $1, place."offset" + entries.step, entries.entry, clock_timestamp()
    FROM place, entries
)
SELECT epoch, "offset" + steps AS "offset", CASE WHEN steps > 0 THEN pg_notify($8, '') END
FROM place, counted
"""
# One statement, and so one snapshot, for the state and the entries.
READ: Final = f"""
SELECT state.epoch, state."offset" AS newest, {_IS_TRUSTED} AS is_trusted,
    found."offset", found.entry
FROM tidings_feed_state AS state LEFT JOIN LATERAL (
    SELECT "offset", entry FROM tidings_feed
    WHERE name = $1 AND "offset" > $5 AND "offset" <= $6 ORDER BY "offset" LIMIT $7
) AS found ON true
WHERE state.name = $1
"""
HEAD: Final = f"""
SELECT epoch, "offset" FROM tidings_feed_state AS state WHERE name = $1 AND {_IS_TRUSTED}
"""
HAS_TABLES: Final = """
SELECT count(to_regclass(name)) = 3
FROM unnest(ARRAY['tidings_feed', 'tidings_feed_state', 'tidings_feed_keys']) AS name
"""
BEGIN: Final = f"""
INSERT INTO tidings_feed_state AS state (name, epoch, "offset", mark) VALUES ($1, $5, 0, {_MARK})
ON CONFLICT (name) DO UPDATE SET epoch = excluded.epoch, "offset" = 0, mark = excluded.mark
WHERE state.mark <> excluded.mark OR (state.epoch = $3 AND state."offset" < $4)
"""
# Always the oldest first, so that what is left has no gaps.
TRIM: Final = """
DELETE FROM tidings_feed WHERE name = $1 AND "offset" <= (
    SELECT max("offset") FROM (
        SELECT "offset", at FROM tidings_feed WHERE name = $1 ORDER BY "offset" LIMIT $4
    ) AS oldest
    WHERE at < now() - make_interval(secs => $3) OR "offset" <= (
        SELECT "offset" FROM tidings_feed_state WHERE name = $1
    ) - $2::bigint
)
"""
TRIM_KEYS: Final = """
DELETE FROM tidings_feed_keys WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM tidings_feed_keys WHERE name = $1 AND at < now() - make_interval(secs => $2)
    LIMIT $3
))
"""
DISTRUST: Final = "UPDATE tidings_feed_state SET mark = '' WHERE name = $1"
