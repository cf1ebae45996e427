// How many requests do many clients make of one change, and of a burst of changes?
//   node amplification.mjs --clients 200 [--client package|old]

import { parseArgs } from 'node:util';

import { createClient } from '../dist/index.js';
import { OldLiveList } from './old-example.mjs';
import { command, create, server, sleep, tokenOf, tracedFetch, until } from './support.mjs';

const { values } = parseArgs({
  options: { clients: { type: 'string', default: '200' }, client: { type: 'string', default: 'package' } },
});
const count = Number(values.clients);
const fetch = tracedFetch();
const ids = [];
for (let n = 0; n < 100; n++) ids.push(await create({ room: 'many', title: `t${n}` }));
const filters = { room: 'many' };

const subjects = Array.from({ length: count }, (_, n) => {
  const token = tokenOf(`many${n}`);
  if (values.client === 'old') {
    let records = new Map();
    const path = '/api/posts?filter[room]=many&page[size]=100';
    const list = new OldLiveList(server(), token, path, { resource: 'posts', filters }, (all) => (records = all), {
      fetch,
      transports: ['websocket'],
    });
    return { title: (id) => records.get(id)?.attributes.title, ready: () => records.size === 100, list };
  }
  const client = createClient({ url: server(), token, fetch });
  const list = client.live('posts', { filters });
  list.subscribe(() => null);
  const title = (id) => list.getSnapshot().data.find((post) => post.id === id)?.attributes.title;
  return { title, ready: () => list.getSnapshot().isLive };
});

async function measured(what, change, settled) {
  const before = fetch.urls.length;
  const { statements } = await command('statements');
  const began = Date.now();
  await change();
  const lasted = Date.now() - began;
  await until(() => subjects.every(settled), what, 240_000);
  await until(() => fetch.open === 0, what, 240_000);
  await sleep(500);
  const requests = fetch.urls.length - before;
  const made = (await command('statements')).statements - statements;
  if (process.env.VERBOSE) console.log(fetch.urls.slice(before).map((url) => `${url.slice(0, 150)} ${url.length}`));
  console.log(`${what}: ${(requests / count).toFixed(2)} requests and ${(made / count).toFixed(2)} statements per client (the changes took ${lasted} ms)`);
}

await until(() => subjects.every((subject) => subject.ready()), 'ready', 240_000);
await until(() => fetch.open === 0);
console.log(`${count} clients (${values.client}); ${(fetch.urls.length / count).toFixed(2)} requests each to load`);
await measured('1 change', () => command('patch', { ids: [ids[0]], title: 'one' }), ({ title }) => title(ids[0]) === 'one');
await measured(
  '100 changes in one transaction',
  () => command('patch', { ids, title: 'together' }),
  ({ title }) => ids.every((id) => title(id) === 'together'),
);
await measured(
  '100 changes in 100 ms',
  () => command('spread', { ids, title: 'all', seconds: 0.1 }),
  ({ title }) => ids.every((id) => title(id) === 'all'),
);
process.exit(0);
