// Unmodified JSON:API clients against a real server, whose resources are at API_URL.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { recordIdentifierFor, useRecommendedStore } from '@warp-drive/core';
import { setupSignals } from '@warp-drive/core/configure';
import { JSONAPICache } from '@warp-drive/json-api';
import Devour from 'devour-client';
import { Jsona } from 'jsona';
import Kitsu from 'kitsu';

const url = process.env.API_URL;
const MEDIA_TYPE = 'application/vnd.api+json';
const ids = (records) => records.map(({ id }) => id).sort();

async function fetched(method, path, body) {
  const headers = { accept: MEDIA_TYPE, 'content-type': MEDIA_TYPE };
  const answer = await fetch(`${url}/${path}`, { method, headers, body: body && JSON.stringify(body) });
  const text = await answer.text();
  assert.ok(answer.ok, `${method} ${path}: ${answer.status} ${text}`);
  return text === '' ? null : JSON.parse(text);
}

test('kitsu', async () => {
  const api = new Kitsu({ baseURL: url, pluralize: false, camelCaseTypes: false, resourceCase: 'none' });
  const { data: ada } = await api.create('users', { name: 'Ada' });
  const { data: red } = await api.create('tags', { name: 'red' });
  const { data: blue } = await api.create('tags', { name: 'blue' });
  const { data: made } = await api.create('posts', {
    title: 'one',
    author: { data: { type: 'users', id: ada.id } },
    tags: { data: [{ type: 'tags', id: red.id }] },
  });
  const one = `posts/${made.id}`;
  const { data: shown } = await api.get(one, { params: { include: 'author,tags', fields: { users: 'name' } } });
  assert.equal(shown.author.data.name, 'Ada');
  assert.deepEqual(shown.tags.data.map(({ name }) => name), ['red']);

  const tags = (method, ...keys) =>
    api.request({ method, url: `${one}/relationships/tags`, type: 'tags', body: keys.map((id) => ({ id })) });
  await tags('POST', blue.id);
  assert.deepEqual(ids((await api.get(`${one}/relationships/tags`)).data), ids([red, blue]));
  await api.delete(`${one}/relationships/tags`, [red.id]);
  assert.deepEqual(ids((await api.get(`${one}/tags`)).data), [blue.id]);
  await tags('PATCH', red.id);
  assert.deepEqual(ids((await api.get(`${one}/tags`)).data), [red.id]);

  const { data: grace } = await api.create('users', { name: 'Grace' });
  const author = { method: 'PATCH', url: `${one}/relationships/author`, type: 'users' };
  await api.request({ ...author, body: { id: grace.id } });
  assert.equal((await api.get(`${one}/author`)).data.name, 'Grace');

  // Relationships go back as such where they have data.
  const { data: whole } = await api.get(one, { params: { include: 'author,tags' } });
  const { data: changed } = await api.update('posts', { ...whole, title: 'two' });
  assert.equal(changed.title, 'two');
  const page = await api.get('posts', { params: { filter: { title: 'two' }, sort: '-id', page: { size: 1 } } });
  assert.deepEqual(ids(page.data), [made.id]);
  await api.delete('posts', made.id);
  await assert.rejects(api.get(one), (error) => error.errors[0].code === 'RECORD_NOT_FOUND');
});

test('devour-client', async () => {
  const api = new (Devour.default ?? Devour)({ apiUrl: url, pluralize: false, logger: false });
  api.define('users', { name: '', posts: { jsonApi: 'hasMany', type: 'posts' } });
  api.define('tags', { name: '' });
  api.define('posts', {
    title: '',
    author: { jsonApi: 'hasOne', type: 'users' },
    tags: { jsonApi: 'hasMany', type: 'tags' },
  });
  const { data: ada } = await api.create('users', { name: 'Ada' });
  const { data: red } = await api.create('tags', { name: 'red' });
  const { data: blue } = await api.create('tags', { name: 'blue' });
  const { data: made } = await api.create('posts', { title: 'one', author: ada, tags: [red] });
  const { data: shown } = await api.find('posts', made.id, { include: 'author,tags' });
  assert.equal(shown.author.name, 'Ada');
  assert.deepEqual(ids(shown.tags), [red.id]);

  const tags = () => api.one('posts', made.id).relationships().all('tags');
  await tags().post([{ id: blue.id }]);
  assert.deepEqual(ids((await api.one('posts', made.id).all('tags').get()).data), ids([red, blue]));
  await tags().destroy([{ type: 'tags', id: red.id }]);
  assert.deepEqual(ids((await api.one('posts', made.id).all('tags').get()).data), [blue.id]);
  await tags().patch([{ id: red.id }]);
  const { data: again } = await api.find('posts', made.id, { include: 'author,tags' });
  assert.deepEqual(ids(again.tags), [red.id]);

  const { data: changed } = await api.update('posts', { ...again, title: 'two' });
  assert.equal(changed.title, 'two');
  const { data: list, meta } = await api.findAll('posts', { 'filter[title]': 'two', page: { size: 1 } });
  assert.deepEqual([ids(list), meta.page.total], [[made.id], 1]);
  await api.destroy('posts', made.id);
  await assert.rejects(api.find('posts', made.id));
});

test('jsona', async () => {
  const jsona = new Jsona();
  const create = async (stuff, includeNames) =>
    jsona.deserialize(await fetched('POST', stuff.type, jsona.serialize({ stuff, includeNames })));
  const ada = await create({ type: 'users', name: 'Ada' });
  const red = await create({ type: 'tags', name: 'red' });
  const related = { author: ada, tags: [red], relationshipNames: ['author', 'tags'] };
  const made = await create({ type: 'posts', title: 'one', ...related });
  const place = `posts/${made.id}`;
  const whole = jsona.deserialize(await fetched('GET', `${place}?include=author,tags`));
  assert.deepEqual([whole.title, whole.author.name, ids(whole.tags)], ['one', 'Ada', [red.id]]);

  // The whole record goes back, with what was included.
  const blue = await create({ type: 'tags', name: 'blue' });
  whole.title = 'two';
  delete whole.links; // which jsona would send as an attribute
  whole.tags = [red, blue];
  const sent = jsona.serialize({ stuff: whole });
  const changed = jsona.deserialize(await fetched('PATCH', place, sent));
  assert.equal(changed.title, 'two');
  assert.deepEqual(ids(jsona.deserialize(await fetched('GET', `${place}/relationships/tags`))), ids([red, blue]));
  await fetched('DELETE', place);
});

// What a framework has @warp-drive do; nothing is rendered here.
setupSignals(() => ({
  createSignal: () => ({}),
  consumeSignal: () => undefined,
  notifySignal: () => undefined,
  createMemo: (_object, _key, compute) => compute,
  willSyncFlushWatchers: () => false,
  waitFor: (promise) => promise,
}));

test('@warp-drive/json-api', async () => {
  const identity = { kind: '@id', name: 'id' };
  const options = { async: false, inverse: null, linksMode: true };
  const name = { kind: 'field', name: 'name' };
  const Store = useRecommendedStore({
    cache: JSONAPICache,
    schemas: [
      { type: 'users', identity, fields: [name] },
      { type: 'tags', identity, fields: [name] },
      {
        type: 'posts',
        identity,
        fields: [
          { kind: 'field', name: 'title' },
          { kind: 'belongsTo', name: 'author', type: 'users', options },
          { kind: 'hasMany', name: 'tags', type: 'tags', options },
        ],
      },
    ],
  });
  const store = new Store();
  const headers = new Headers({ accept: MEDIA_TYPE, 'content-type': MEDIA_TYPE });
  const request = async (method, path, body, extra = {}) => {
    const sent = body && { body: JSON.stringify(body) };
    return (await store.request({ url: `${url}/${path}`, method, headers, ...sent, ...extra })).content;
  };
  const [ada, red, blue] = await Promise.all(
    [['users', 'Ada'], ['tags', 'red'], ['tags', 'blue']].map(async ([type, given]) => {
      const { data } = await request('POST', type, { data: { type, attributes: { name: given } } });
      return data;
    }),
  );
  const relationships = {
    author: { data: { type: 'users', id: ada.id } },
    tags: { data: [{ type: 'tags', id: red.id }] },
  };
  const { data: made } = await request('POST', 'posts', {
    data: { type: 'posts', lid: 'new', attributes: { title: 'one' }, relationships },
  });
  const place = `posts/${made.id}`;
  const { data: post } = await request('GET', `${place}?include=author,tags`);
  assert.deepEqual([post.title, post.author.name, post.tags.map((one) => one.name)], ['one', 'Ada', ['red']]);

  // What the cache holds goes back as it is: with its lid and its links.
  const key = recordIdentifierFor(post);
  const { type, id, lid, attributes, links } = store.cache.peek(key);
  const held = { type, id, lid, links, relationships, attributes: { ...attributes, title: 'two' } };
  await request('PATCH', place, { data: held }, { op: 'updateRecord', records: [key] });
  assert.equal(post.title, 'two');

  // Its cache takes no answers without a document, but to writes of records.
  await fetched('POST', `${place}/relationships/tags`, { data: [{ type: 'tags', id: blue.id }] });
  await request('GET', `${place}?include=author,tags`, undefined, { cacheOptions: { reload: true } });
  assert.deepEqual(ids(post.tags), ids([red, blue]));
  const linkage = await fetched('GET', `${place}/relationships/tags`);
  assert.deepEqual(ids(linkage.data), ids([red, blue]));
  const { data: list, links: pages } = await request('GET', 'posts?filter[title]=two&page[size]=1');
  assert.deepEqual([ids(list), pages.next], [[made.id], null]);
  await request('DELETE', place, undefined, { op: 'deleteRecord', records: [key] });
  await assert.rejects(request('GET', place, undefined, { cacheOptions: { reload: true } }), { status: 404 });
});
