// The JavaScript system that tidings re-creates, as its guide sets it up.
import express from 'express';
import { Api } from 'hooked-api';
import { ExpressPlugin, RestApiKnexPlugin, RestApiPlugin } from 'json-rest-api';
import knexLibrary from 'knex';
import { listen, rows, verified } from './posts.mjs';

const knex = knexLibrary({
  client: 'better-sqlite3',
  connection: { filename: process.env.BENCH_DATABASE },
  useNullAsDefault: true,
});
await knex.raw('PRAGMA journal_mode = WAL');
await knex.raw('PRAGMA synchronous = NORMAL');
const api = new Api({ name: 'bench', logging: { level: 'error' } });
await api.use(RestApiPlugin, { returnRecordTransport: { post: 'full' } });
await api.use(RestApiKnexPlugin, { knex });
await api.use(ExpressPlugin, { mountPath: '/api' });
await api.addResource('posts', {
  schema: {
    title: { type: 'string', required: true },
    body: { type: 'string' },
    status: { type: 'string', defaultTo: 'draft', search: true },
    views: { type: 'number', defaultTo: 0 },
    published_at: { type: 'dateTime' },
  },
});
await api.resources.posts.createKnexTable();
for (const row of rows()) {
  await knex('posts').insert({ ...row, published_at: new Date(row.published_at) });
}
const app = express();
app.use(verified);
app.use(api.http.express.router);
app.use(api.http.express.notFoundRouter);
listen(app);
