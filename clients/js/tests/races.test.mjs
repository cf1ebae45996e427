// Each race that a client of one's own has to win, one after the other, against a real server.
// A gate holds a real answer back; nothing here depends on how long anything takes.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';

import { createClient, TidingsError } from '../dist/index.js';
import { comparing, holds } from '../dist/list.js';
import { answerOf, command, create, direct, gate, Line, remove, server, sleep, SOCKET, tokenOf, tracedFetch, until, update } from './support.mjs';

let rooms = 0;
const ends = [];
after(() => Promise.all(ends.map((end) => end())));

/** A room of its own, a client and a list of it. */
async function scene({ records = 0, line, filters = {}, token, ...options } = {}) {
  const room = `race${process.pid}-${++rooms}`;
  const ids = [];
  for (let n = 0; n < records; n++) ids.push(await create({ room, title: `t${n}`, status: 'published' }));
  const fetch = tracedFetch();
  const client = createClient({
    url: line?.url ?? server(),
    token: token ?? tokenOf(room),
    fetch,
    socket: SOCKET,
    batch: 10,
    linger: 20,
    ...options,
  });
  ends.push(async () => {
    client.close();
    await line?.close();
  });
  const wanted = { filters: { room, status: 'published', ...filters } };
  const list = client.live('posts', wanted);
  return { room, ids, client, fetch, list, wanted };
}

const titles = (list) => list.getSnapshot().data.map(({ attributes }) => attributes.title);
const begin = async (list) => {
  const off = list.subscribe(() => null);
  await live(list);
  return off;
};
const describe = (list) => {
  const { data, ...rest } = list.getSnapshot();
  return JSON.stringify({ ...rest, error: String(rest.error), titles: data.map(({ attributes }) => attributes.title) });
};
const live = (list) => until(() => list.getSnapshot().isLive, () => `live: ${describe(list)}`);
const shows = (list, wanted) =>
  until(() => `${titles(list)}` === `${wanted}`, () => `${wanted}: ${describe(list)}`);
const draft = (id) => update(id, { status: 'draft' });
const publish = (id) => update(id, { status: 'published' });
const make = (room, title) => create({ room, title, status: 'published' });

test('pages that shift while they are read skip no record', async () => {
  const { list, fetch, ids, wanted, client } = await scene({ records: 9, pageSize: 3 });
  const held = gate((url) => url.includes('page[offset]=2'));
  fetch.gate = held;
  list.subscribe(() => null);
  await held.reached;
  // The answer of the second page is there and held; two of the first page leave before the third.
  for (const id of ids.slice(0, 2)) await draft(id);
  held.open();
  await live(list);
  await shows(list, ['t2', 't3', 't4', 't5', 't6', 't7', 't8']);
  assert.ok(client.live('posts', wanted) === list);
});

test('what enters, changes and leaves while the list loads is looked at again', async () => {
  const { list, fetch, ids, room } = await scene({ records: 3 });
  fetch.gate = gate();
  list.subscribe(() => null);
  await fetch.gate.reached;
  await make(room, 'new');
  await draft(ids[0]);
  await update(ids[1], { title: 'changed' });
  fetch.gate.open();
  await shows(list, ['changed', 't2', 'new']);
  await live(list);
});

test('a record that leaves while it is being fetched does not come back', async () => {
  const { list, fetch, ids } = await scene({ records: 2 });
  await begin(list);
  fetch.gate = gate((url) => url.includes('filter[id]'));
  await update(ids[0], { title: 'changed' });
  await fetch.gate.reached;
  const shown = [];
  list.subscribe(() => shown.push(`${titles(list)}`));
  await draft(ids[0]);
  await shows(list, ['t1']);
  fetch.gate.open();
  await make(list.getSnapshot().data[0].attributes.room, 'last');
  await shows(list, ['t1', 'last']);
  assert.ok(shown.every((text) => !text.includes('changed')), shown.join(' / '));
});

test('a list has one request at a time, and a burst is one request', async () => {
  const { list, fetch, ids, room } = await scene({ records: 3, batch: 100 });
  await begin(list);
  let most = 0;
  fetch.gate = async () => void (most = Math.max(most, fetch.open));
  const before = fetch.urls.length;
  await command('patch', { ids, title: 'same' });
  await shows(list, ['same', 'same', 'same']);
  assert.equal(fetch.urls.length - before, 1);
  for (let n = 0; n < 20; n++) await update(ids[n % 3], { title: `n${n}` });
  await make(room, 'last');
  await shows(list, ['n18', 'n19', 'n17', 'last']);
  assert.equal(most, 1);
});

test('a refetch has the filter of the list: what does not match is gone', async () => {
  const { list, fetch, ids } = await scene({ records: 2 });
  await begin(list);
  fetch.gate = gate((url) => url.includes('filter[id]'));
  await update(ids[0], { title: 'changed' });
  await fetch.gate.reached;
  const asked = fetch.urls.at(-1);
  assert.match(asked, /filter\[room\]=race.*filter\[status\]=published.*filter\[id\]=/);
  fetch.gate.open();
  await shows(list, ['changed', 't1']);
});

test('what a document holds already is not fetched again', async () => {
  const { list, client, fetch, ids } = await scene({ records: 2 });
  await begin(list);
  const before = fetch.urls.length;
  await client.update('posts', ids[0], { title: 'mine' });
  assert.deepEqual(titles(list), ['mine', 't1']);
  await update(ids[1], { title: 'other' });
  await shows(list, ['mine', 'other']);
  // The write, its refetch, the other's refetch; none for the notification of the own write.
  assert.deepEqual(fetch.urls.length - before, 3, fetch.urls.slice(before).join('\n'));
  assert.equal(holds('a.10', 'a.9'), true);
  assert.equal(holds('a.10', 'a.10'), true);
  assert.equal(holds('a.9', 'a.10'), false);
  assert.equal(holds('a.10', 'b.9'), false);
  assert.equal(holds(undefined, 'b.9'), false);
});

test('own writes are in the list when their promise is fulfilled', async () => {
  const { list, client, room } = await scene();
  await begin(list);
  const made = await client.create('posts', { room, title: 'one', status: 'published' });
  assert.deepEqual(titles(list), ['one']);
  const hidden = await client.create('posts', { room, title: 'two', status: 'draft' });
  assert.deepEqual(titles(list), ['one']);
  await client.update('posts', hidden.id, { status: 'published' });
  assert.deepEqual(titles(list), ['one', 'two']);
  await client.remove('posts', made.id);
  assert.deepEqual(titles(list), ['two']);
  await assert.rejects(client.update('posts', made.id, { title: 'x' }), (error) => {
    assert.ok(error instanceof TidingsError);
    assert.deepEqual([error.status, error.code], [404, 'RECORD_NOT_FOUND']);
    return true;
  });
});

for (const when of ['load', 'flush']) {
  const reasons = {
    epoch: async () => command('restart'),
    permission: async ({ room }) => command('narrow', { user: room }),
    bulk: async ({ room }) => command('bulk', { room, status: 'published' }),
  };
  for (const [reason, cause] of Object.entries(reasons)) {
    test(`a resync (${reason}) during a ${when} loads everything again`, async () => {
      const line = await Line.open();
      const it = await scene({ records: 3, line, filters: { status: undefined } });
      const { list, fetch, ids, room } = it;
      const held = gate((url) => url.includes(when === 'load' ? 'page[offset]' : 'filter[id]'));
      await begin(list);
      fetch.gate = held;
      if (when === 'load') list.reload();
      else await update(ids[1], { title: 'changed' });
      await held.reached;
      const before = fetch.urls.length;
      await cause(it);
      await make(room, 'last');
      if (reason === 'epoch') await until(() => it.client.status === 'live');
      held.open();
      await until(async () => {
        const { data } = await answerOf(`filter[room]=${room}&sort=id`);
        return list.getSnapshot().isLive && `${titles(list)}` === `${data.map((one) => one.attributes.title)}`;
      }, () => describe(list));
      assert.ok(fetch.urls.slice(before).some((url) => url.includes('page[offset]=0')), 'no load');
    });
  }
}

test('a cursor that cannot be read (window) loads everything again', async () => {
  const { room, client, fetch } = await scene({ records: 2 });
  const initial = { data: [], meta: { cursor: 'nonsense' } };
  const list = client.live('posts', { filters: { room }, initial });
  await begin(list);
  await shows(list, ['t0', 't1']);
  assert.ok(fetch.urls.some((url) => url.includes('page[offset]=0')));
});

test('a list that begins with a document asks only for what changed since', async () => {
  const { room, ids, client, fetch } = await scene({ records: 3 });
  const initial = await direct('GET', `/posts?filter[room]=${room}&sort=id`);
  await update(ids[1], { title: 'since' });
  await remove(ids[2]);
  const list = client.live('posts', { filters: { room }, initial });
  assert.equal(list.getSnapshot().status, 'ready');
  assert.deepEqual(titles(list), ['t0', 't1', 't2']);
  await begin(list);
  await shows(list, ['t0', 'since']);
  assert.ok(fetch.urls.every((url) => !url.includes('page[offset]')), fetch.urls.join('\n'));
});

test('a resync (overflow) during a load loads everything again', async () => {
  const { list, fetch, ids } = await scene({ records: 100 });
  await begin(list);
  const held = (fetch.gate = gate((url) => url.includes('page[offset]')));
  list.reload();
  await held.reached;
  const before = fetch.urls.length;
  // The server of these tests holds at most 50 notifications for a client.
  await command('patch', { ids, title: 'x' });
  held.open();
  await shows(list, ids.map(() => 'x'));
  await live(list);
  assert.ok(fetch.urls.slice(before).some((url) => url.includes('page[offset]=0')), 'no load');
});

test('hundreds of changes in one go are right in the end', async () => {
  const it = await scene({ records: 60, pageSize: 20 });
  await begin(it.list);
  await command('churn', { ids: it.ids, times: 10 });
  await shows(it.list, it.ids.map(() => 'c9'));
});

test('what changed while the line was cut is fetched after it', async () => {
  const line = await Line.open();
  const { list, client, ids, room, fetch } = await scene({ records: 3, line });
  await begin(list);
  await line.cut();
  await until(() => client.status === 'offline');
  assert.equal(list.getSnapshot().isLive, false);
  assert.deepEqual(titles(list), ['t0', 't1', 't2'], 'what was loaded is still shown');
  await remove(ids[0]);
  await update(ids[1], { title: 'changed' });
  await make(room, 'new');
  const before = fetch.urls.length;
  await line.mend();
  await shows(list, ['changed', 't2', 'new']);
  await live(list);
  assert.ok(fetch.urls.slice(before).every((url) => !url.includes('page[offset]')), 'no load needed');
});

test('nothing is emitted while offline, and nothing is left over for later', async () => {
  const line = await Line.open();
  const { list, client, room } = await scene({ records: 1, line });
  const off = await begin(list);
  await line.cut();
  await until(() => client.status === 'offline');
  const other = client.live('posts', { filters: { room } });
  const offOther = other.subscribe(() => null);
  off();
  offOther();
  await sleep(60); // Longer than `linger`: both have stopped by now.
  await line.mend();
  await until(() => client.status === 'live');
  const again = client.live('posts', { filters: { room } });
  await begin(again);
  const { subscriptions } = await command('subscriptions', { user: room });
  assert.equal(subscriptions, 1);
});

test('a list is counted by use: one subscription for all, and none after the last', async () => {
  const { list, client, wanted, room, fetch } = await scene({ records: 1 });
  const offs = [await begin(list), list.subscribe(() => null), client.live('posts', wanted).subscribe(() => null)];
  const other = client.live('posts', { ...wanted, sort: ['-title'] });
  await begin(other).then((off) => offs.push(off));
  assert.equal((await command('subscriptions', { user: room })).subscriptions, 1);
  // StrictMode: mounted, unmounted and mounted again.
  const before = fetch.urls.length;
  offs.pop()();
  offs.push(other.subscribe(() => null));
  await make(room, 'new');
  await shows(other, ['t0', 'new']);
  await shows(list, ['t0', 'new']);
  assert.equal(fetch.urls.length - before, 2, 'one refetch for each of the two lists');
  for (const off of offs) {
    off();
    off();
  }
  await until(async () => (await command('subscriptions', { user: room })).subscriptions === 0);
});

test('a list that is used again after it has stopped is loaded again', async () => {
  const { list, room } = await scene({ records: 1 });
  const off = await begin(list);
  off();
  await until(async () => (await command('subscriptions', { user: room })).subscriptions === 0);
  await make(room, 'new');
  list.subscribe(() => null);
  await shows(list, ['t0', 'new']);
  await live(list);
});

test('a token that expires is renewed on the live socket, and nothing is missed', async () => {
  const given = [];
  const token = ({ renew }) => {
    given.push(renew);
    return tokenOf('renewed', given.length < 3 ? 1.5 : 3600);
  };
  const { list, client, room } = await scene({ records: 1, token });
  const states = [];
  await begin(list);
  client.onStatus((status) => states.push(status));
  await until(() => given.length >= 3);
  await make(room, 'new');
  await shows(list, ['t0', 'new']);
  assert.deepEqual(states, []);
  assert.deepEqual(given, [false, true, true]);
});

test('a socket that the server has ended is connected again with a new token', async () => {
  let last;
  const token = ({ renew }) => (last && !renew ? last : (last = tokenOf('ended')));
  const { list, client, room } = await scene({ records: 1, token });
  const states = [];
  await begin(list);
  client.onStatus((status) => states.push(status));
  await command('revoke', { token: last });
  await until(() => states.includes('live'));
  await make(room, 'new');
  await shows(list, ['t0', 'new']);
  assert.deepEqual(states, ['offline', 'live']);
});

test('a token that ended while the device slept is renewed, for HTTP and for the socket', async () => {
  const line = await Line.open();
  const given = [];
  const token = ({ renew }) => {
    given.push(renew);
    return tokenOf('sleeper', renew ? 3600 : -60);
  };
  const { list, room } = await scene({ records: 1, token, line });
  await begin(list);
  await make(room, 'new');
  await shows(list, ['t0', 'new']);
  assert.ok(given.filter((renew) => renew).length <= 2, `${given}`);
});

test('a client whose token is refused says so, and goes on when it gets another', async () => {
  let good = false;
  const token = () => (good ? tokenOf('late') : tokenOf('late', -60));
  const { list, client } = await scene({ records: 1, token });
  const errors = [];
  client.onStatus((status, error) => errors.push([status, error?.code]));
  list.subscribe(() => null);
  await until(() => client.status === 'refused');
  assert.deepEqual(errors.at(-1), ['refused', 'TOKEN_EXPIRED']);
  await until(() => list.getSnapshot().status === 'error');
  assert.equal(list.getSnapshot().error.code, 'TOKEN_EXPIRED');
  good = true;
  await live(list);
  assert.deepEqual(titles(list), ['t0']);
});

test('a tab that is seen again connects at once', async () => {
  const listeners = new Map();
  globalThis.document = {
    visibilityState: 'visible',
    addEventListener: (name, act) => listeners.set(name, act),
  };
  try {
    const line = await Line.open();
    const socket = { reconnectionDelay: 1e8, reconnectionDelayMax: 1e8 };
    const { list, client } = await scene({ records: 1, line, socket });
    await begin(list);
    await line.cut();
    await until(() => client.status === 'offline');
    await line.mend();
    listeners.get('visibilitychange')();
    await live(list);
  } finally {
    delete globalThis.document;
  }
});

test('a list loads over HTTP while there is no socket', async () => {
  const { list, client } = await scene({ records: 1, socketPath: '/nowhere' });
  list.subscribe(() => null);
  await shows(list, ['t0']);
  assert.equal(list.getSnapshot().isLive, false);
  assert.notEqual(client.status, 'live');
});

test('a refusal is final until something changes, and tells why', async () => {
  const { client } = await scene();
  const list = client.live('posts', { filters: { colour: 'red' } });
  list.subscribe(() => null);
  await until(() => list.getSnapshot().status === 'error');
  const { data, error, isLive } = list.getSnapshot();
  assert.deepEqual([data.length, error.status, error.code, isLive], [0, 400, 'UNKNOWN_FIELD', false]);
});

test('a subscriber that throws does not stop the list', async () => {
  const { list, room } = await scene({ records: 1 });
  const thrown = [];
  const others = process.listeners('uncaughtException');
  process.removeAllListeners('uncaughtException');
  process.on('uncaughtException', (error) => thrown.push(error.message));
  const off = list.subscribe(() => {
    throw new Error('mine');
  });
  try {
    await live(list);
    await make(room, 'new');
    await shows(list, ['t0', 'new']);
    assert.ok(thrown.length > 0 && thrown.every((message) => message === 'mine'), `${thrown}`);
  } finally {
    off();
    await sleep(0);
    process.removeAllListeners('uncaughtException');
    for (const other of others) process.on('uncaughtException', other);
  }
});

test('onChange collects ids, and says null where it cannot know them', async () => {
  const line = await Line.open();
  const { client, room, ids } = await scene({ records: 3, line });
  const told = [];
  const off = client.onChange('posts', { room }, (changed) => told.push(changed));
  await until(() => told.length);
  assert.deepEqual(told, [null]);
  await command('patch', { ids, title: 'x' });
  await until(() => told.length > 1);
  assert.deepEqual(told.slice(1).flat().sort(), ids.sort());
  await command('restart');
  await until(() => told.at(-1) === null);
  off();
  await until(async () => (await command('subscriptions', { user: room })).subscriptions === 0);
  const failures = [];
  client.onChange('posts', { colour: 'red' }, () => null, (error) => failures.push(error.code));
  await until(() => failures.length);
  assert.deepEqual(failures, ['INVALID_FILTERS']);
});

test('related records come and go with those that include them', async () => {
  const { room, client, ids } = await scene({ records: 2 });
  const author = await create({ name: 'Ann' }, 'users');
  await update(ids[0], { author_id: author });
  const list = client.live('posts', { filters: { room }, include: ['author'], fields: undefined });
  await begin(list);
  assert.deepEqual(list.getSnapshot().included.map(({ attributes }) => attributes.name), ['Ann']);
  await client.update('posts', ids[0], { author_id: null });
  assert.deepEqual(list.getSnapshot().included, []);
});

test('a list of chosen ids follows just them', async () => {
  const { room, client, ids } = await scene({ records: 3 });
  const list = client.live('posts', { filters: { id: ids.slice(0, 2) } });
  await begin(list);
  await update(ids[0], { title: 'changed' });
  await shows(list, ['changed', 't1']);
  await client.update('posts', ids[2], { title: 'not mine' });
  assert.deepEqual(titles(list), ['changed', 't1']);
  assert.ok(room);
});

test('the order is that of the server', async () => {
  const room = `order${process.pid}`;
  for (const title of ['b', null, '\u{1f600}', '\uffee', 'a', 'B', '\ud7ff', '']) {
    for (const views of [2, null, 10]) await create({ room, title, views });
  }
  const { data } = await answerOf(`filter[room]=${room}`);
  for (const sort of [[], ['id'], ['-id'], ['title'], ['-title', 'views'], ['views', '-id'], ['-views', 'title']]) {
    const expected = await answerOf(`filter[room]=${room}&sort=${sort}`);
    assert.deepEqual([...data].sort(comparing(sort)), expected.data, `${sort}`);
  }
});
