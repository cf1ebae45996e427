"""The Lua scripts that Redis runs for a log; each is one atomic step.

Three keys, of one hash slot:

* the state, a hash: ``epoch``, ``offset`` (of the newest entry), ``run`` (the ids of the server
  process and of its term as a master, which the epoch belongs to), ``begun`` (when the epoch
  began), ``trim`` (when to look for old entries again);
* the entries, a stream. An id is the offset and, after the dash, the second of the append, by
  which the age is known. The name of the one field is the epoch, so that whoever reads an entry
  also knows of which history it is; a stream keeps equal names once;
* the keys of batches, a sorted set by the second of the append.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha1
from typing import Final


@dataclass(frozen=True, slots=True)
class Script:
    """A script, and the hash by which Redis knows it."""

    text: str

    @property
    def sha(self) -> str:
        return sha1(self.text.encode(), usedforsecurity=False).hexdigest()


_COMMON: Final = """
local state, entries, seen = KEYS[1], KEYS[2], KEYS[3]
local max_age, most_seen, seen_age = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local own_epoch, own_age = ARGV[5], tonumber(ARGV[6])
local time = redis.call('TIME')
local now, precise = tonumber(time[1]), tonumber(time[1]) + tonumber(time[2]) / 1000000

local function told_by(section, name)
  local told = redis.pcall('INFO', section)
  if type(told) ~= 'string' then return '' end
  return string.match(told, name .. ':(%w+)') or ''
end

local function server_run()
  local run = told_by('server', 'run_id')
  if run == '' then return '' end
  -- A replica that is promoted gets another one, also where it was the master before.
  return run .. '.' .. told_by('replication', 'master_replid')
end

local function begin(epoch, run)
  redis.call('DEL', entries)
  redis.call('HSET', state, 'epoch', epoch, 'offset', 0, 'run', run, 'trim', 0,
    'begun', string.format('%.6f', precise))
  return epoch, 0
end

-- Whether the caller appended to another epoch after this one had begun: to a master that had been
-- replaced and did not know it yet. Nobody who follows this one has read that.
local function is_split(epoch, begun)
  return own_epoch ~= '' and own_epoch ~= epoch and own_age <= precise - (tonumber(begun) or 0)
end

local function second_of(id)
  return tonumber(string.match(id, '-(%d+)$'))
end

local function is_old(offset)
  local found = redis.call('XRANGE', entries, string.format('%.0f', offset), '+', 'COUNT', 1)
  return found[1] and second_of(found[1][1]) < now - max_age
end

local function trim(offset, due)
  local count = redis.call('ZCARD', seen)
  if count > most_seen then
    redis.call('ZREMRANGEBYRANK', seen, 0, count - most_seen - 1)
  end
  if now < (tonumber(due) or 0) then return end
  redis.call('HSET', state, 'trim', now + math.max(1, math.min(60, math.floor(max_age / 10))))
  redis.call('ZREMRANGEBYSCORE', seen, '-inf', now - seen_age)
  local first = redis.call('XRANGE', entries, '-', '+', 'COUNT', 1)[1]
  if not first or second_of(first[1]) >= now - max_age then return end
  local old, kept = tonumber(string.match(first[1], '^%d+')), offset + 1
  while kept - old > 1 do
    local middle = math.floor((old + kept) / 2)
    if is_old(middle) then old = middle else kept = middle end
  end
  redis.call('XTRIM', entries, 'MAXLEN', string.format('%.0f', offset + 1 - kept))
end
"""

HEAD: Final = Script(
    _COMMON
    + """
local is_reload = ARGV[7] == '1'
-- Removes nothing; but a replica refuses it, and only the master may be read: others lag behind.
redis.call('ZREMRANGEBYSCORE', seen, '-inf', 0)
local run = server_run()
local known = redis.call('HMGET', state, 'epoch', 'offset', 'run', 'trim', 'begun')
local epoch, offset = known[1], tonumber(known[2])

local function last_offset()
  local info = redis.pcall('XINFO', 'STREAM', entries)
  if info.err then
    -- Without this command there are no streams at all; anything else is a stream not there yet.
    if not string.find(info.err, 'no such key') then return nil, info end
    return 0
  end
  for index = 1, #info, 2 do
    if info[index] == 'last-generated-id' then
      return tonumber(string.match(info[index + 1], '^%d+'))
    end
  end
end

local last, failure = last_offset()
if failure then return failure end
local is_other
if run == '' then is_other = is_reload else is_other = run ~= known[3] end
if not epoch or not offset or is_other or last ~= offset or is_split(epoch, known[5]) then
  epoch, offset = begin(ARGV[1], run)
else
  trim(offset, known[4])
end
return {epoch, offset, run}
"""
)
"""The epoch, the newest offset and the server's run id; begins an epoch where one is needed.

Where the server may not tell its run id, that it did not know this script (``is_reload``) is
taken as a sign that it has been restarted.
"""

APPEND: Final = Script(
    _COMMON
    + """
local max_length = ARGV[7]
local known = redis.call('HMGET', state, 'epoch', 'offset', 'trim', 'begun')
local epoch, offset = known[1], tonumber(known[2])
if not epoch or not offset or is_split(epoch, known[4]) then
  epoch, offset = begin(ARGV[1], server_run())
end
local place = 8
while place <= #ARGV do
  local key, stop = ARGV[place], place + 1 + tonumber(ARGV[place + 1])
  if not redis.call('ZSCORE', seen, key) then
    for index = place + 2, stop do
      offset = offset + 1
      local id = string.format('%.0f-%.0f', offset, now)
      redis.call('XADD', entries, 'MAXLEN', '~', max_length, id, epoch, ARGV[index])
    end
    redis.call('ZADD', seen, now, key)
  end
  place = stop + 1
end
redis.call('HSET', state, 'offset', string.format('%.0f', offset))
trim(offset, known[3])
return epoch
"""
)
"""Appends batches, given as key, number of entries, entries; gives the epoch."""
