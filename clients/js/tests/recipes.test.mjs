// The recipes of docs/clients.md that need no page, and the types.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { RealtimeResourceManager, subscribeToResource } from '../dist/index.js';
import { clean, folder, recipes, write } from './recipes.mjs';
import { command, create, direct, Line, remove, server, SOCKET, tokenOf, until, update } from './support.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const opened = [];
after(async () => {
  for (const end of opened) await end();
});
let rooms = 0;
const newRoom = () => `recipe${process.pid}-${++rooms}`;

/** A recipe's module, with a client of its own. */
async function recipe(name) {
  const options = { url: server(), token: tokenOf(name), socket: SOCKET, batch: 10, linger: 20 };
  const path = write(
    name,
    `import { createClient } from '@tidings/client';\nexport const client = createClient(${JSON.stringify(options)});\n`,
  );
  const module = await import(path);
  const { client } = await import(`${folder(name)}client.js`);
  opened.push(() => client.close(), () => clean(name));
  return { ...module, client };
}

test('every recipe is run', () => {
  const here = ['guide', 'ssr', 'svelte', 'tanstack-db', 'tanstack-query', 'types', 'vue'];
  assert.deepEqual(Object.keys(recipes).sort(), [...here, 'html', 'react'].sort());
});

test('Svelte', async () => {
  const { live } = await recipe('svelte');
  const room = newRoom();
  const id = await create({ room, title: 'one' });
  let shown;
  const off = live('posts', { filters: { room } }).subscribe((snapshot) => (shown = snapshot));
  await until(() => shown.data.length === 1 && shown.isLive);
  await remove(id);
  await until(() => shown.data.length === 0);
  off();
});

test('Vue', async () => {
  const { effectScope } = await import('vue');
  const { useLive } = await recipe('vue');
  const room = newRoom();
  const id = await create({ room, title: 'one' });
  const scope = effectScope();
  const shown = scope.run(() => useLive('posts', { filters: { room } }));
  await until(() => shown.value.data.length === 1 && shown.value.isLive);
  await update(id, { title: 'two' });
  await until(() => shown.value.data[0].attributes.title === 'two');
  scope.stop();
});

test('TanStack Query', async () => {
  const { QueryClient, QueryObserver } = await import('@tanstack/query-core');
  const { follow, client } = await recipe('tanstack-query');
  const room = newRoom();
  const queryClient = new QueryClient();
  const queryKey = ['posts', room];
  const queryFn = ({ signal }) => client.request('GET', `/posts?filter[room]=${room}`, undefined, signal);
  const observer = new QueryObserver(queryClient, { queryKey, queryFn, staleTime: Infinity });
  const off = [observer.subscribe(() => null), follow(queryClient, 'posts', { room }, queryKey)];
  const titles = () => `${observer.getCurrentResult().data?.data.map(({ attributes }) => attributes.title)}`;
  await until(() => titles() === '');
  const ids = [];
  for (let n = 0; n < 5; n++) ids.push(await create({ room, title: `t${n}` }));
  await until(() => titles() === 't0,t1,t2,t3,t4', titles);
  await remove(ids[1]);
  await until(() => titles() === 't0,t2,t3,t4', titles);
  for (const end of off) end();
  queryClient.clear();
});

test('TanStack DB: rows follow the server, writes show at once and are taken back', async () => {
  const { postsOf } = await recipe('tanstack-db');
  const room = newRoom();
  const id = await create({ room, title: 'one' });
  const posts = postsOf(room);
  await posts.preload();
  const titles = () => `${[...posts.values()].map(({ title }) => title).sort()}`;
  assert.equal(titles(), 'one');
  const other = await create({ room, title: 'other' });
  await until(() => titles() === 'one,other', titles);
  await remove(other);
  await until(() => titles() === 'one', titles);

  const seen = [];
  const changes = posts.subscribeChanges(() => seen.push(titles()));
  const inserting = posts.insert({ id: 'new', room, title: 'two' });
  assert.equal(titles(), 'one,two', 'optimistic');
  await inserting.isPersisted.promise;
  await until(() => titles() === 'one,two' && !posts.has('new'), titles);
  const changing = posts.update(id, (draft) => void (draft.title = 'uno'));
  assert.equal(titles(), 'two,uno');
  await changing.isPersisted.promise;
  assert.equal(titles(), 'two,uno');
  assert.ok(seen.every((text) => text !== ''), seen.join(' / '));

  const refused = posts.update(id, (draft) => void (draft.colour = 'red'));
  await assert.rejects(refused.isPersisted.promise, /colour/);
  assert.equal(posts.get(id).colour, undefined, 'rolled back');
  const deleting = posts.delete(id);
  assert.equal(titles(), 'two');
  await deleting.isPersisted.promise;
  await until(() => titles() === 'two', titles);
  changes.unsubscribe();
  await posts.cleanup();
});

test('a page that was rendered on the server', async () => {
  const { load, hydrate } = await recipe('ssr');
  const room = newRoom();
  const id = await create({ room, title: 'one' });
  const initial = JSON.parse(JSON.stringify(await load(room)));
  await update(id, { title: 'since' });
  const list = hydrate(room, initial);
  assert.equal(list.getSnapshot().data[0].attributes.title, 'one');
  list.subscribe(() => null);
  await until(() => list.getSnapshot().isLive && list.getSnapshot().data[0].attributes.title === 'since');
});

test("the guide's manager: notifications, cache, batches, restore", async () => {
  const { watch } = await recipe('guide');
  const room = newRoom();
  const author = await create({ name: 'Ann' }, 'users');
  const id = await create({ room, title: 'one', author_id: author });
  const line = await Line.open();
  opened.push(() => line.close());
  const given = [];
  const getToken = ({ renew }) => {
    given.push(renew);
    return tokenOf('manager', given.length === 1 ? -60 : 3600);
  };
  const shown = [];
  const realtime = await watch(line.url, getToken, { room }, (document) => shown.push(document));
  opened.push(() => realtime.close());
  assert.deepEqual(given, [false, true], 'a refused token is renewed');
  assert.equal(realtime.subscriptions.size, 1, 'the map is filled');

  const batches = [];
  realtime.on('resources:updated', (told) => batches.push(told));
  await update(id, { title: 'two' });
  await until(() => shown.length === 1);
  assert.equal(shown[0].data.attributes.title, 'two');
  assert.equal(shown[0].included[0].attributes.name, 'Ann');
  await until(() => batches.length === 1);
  assert.deepEqual(batches[0].map((told) => [told.id, told.action]), [[id, 'patch']]);

  const plain = await realtime.fetchResource('posts', id);
  assert.equal(plain.included, undefined, 'the cache knows what was asked for');
  assert.equal(await realtime.fetchResource('posts', id), plain, 'and keeps it');
  await assert.rejects(realtime.fetchResource('posts', '999999999'), { code: 'RECORD_NOT_FOUND' });
  assert.equal(realtime.cache.get('posts:999999999').size, 0, 'but no failure');

  const restored = new Promise((resolve) => realtime.on('restored', resolve));
  await line.cut();
  await update(id, { title: 'three' });
  await line.mend();
  const told = await restored;
  assert.deepEqual([told.restored.length, told.failed.length], [1, 0]);
  await until(() => shown.at(-1).data.attributes.title === 'three');

  const resync = new Promise((resolve) => realtime.on('resource:resync', resolve));
  await command('restart');
  assert.equal((await resync).reason, 'epoch');
});

test("the guide's subscribeToResource", async () => {
  const realtime = new RealtimeResourceManager(server(), tokenOf('helper'));
  opened.push(() => realtime.close());
  const data = await subscribeToResource(realtime.socket, { resource: 'posts', filters: { room: 'x' } });
  assert.deepEqual([data.resource, data.status], ['posts', 'active']);
  const refused = subscribeToResource(realtime.socket, { resource: 'nothing' });
  await assert.rejects(refused, { code: 'RESOURCE_NOT_FOUND' });
});

test('types of an application, made by openapi-typescript, under tsc --strict', async () => {
  const { default: openapiTS, astToString } = await import('openapi-typescript');
  const path = write('types', '');
  opened.push(() => clean('types'));
  const place = folder('types');
  const document = await direct('GET', '/openapi.json');
  writeFileSync(`${place}schema.ts`, astToString(await openapiTS(JSON.stringify(document))));
  writeFileSync(
    `${place}wrong.ts`,
    `import { client } from './recipe.js';
// @ts-expect-error there is no such resource
client.live('nothing');
// @ts-expect-error nor such an attribute
void client.update('posts', '1', { colour: 'red' });
// @ts-expect-error and this one is a text
client.live('posts').getSnapshot().data[0]!.attributes.title satisfies number;
void client.create('posts', { title: 'x', views: 1 });
`,
  );
  const tsc = createRequire(import.meta.url).resolve('typescript/bin/tsc');
  const flags = '--noEmit --strict --module nodenext --target es2022 --skipLibCheck --types node'.split(' ');
  try {
    execFileSync(process.execPath, [tsc, ...flags, path, `${place}wrong.ts`], { cwd: root });
  } catch (error) {
    assert.fail(error.stdout.toString());
  }
});
