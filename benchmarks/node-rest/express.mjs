// Express and better-sqlite3 with nothing on top: the least that gives the same rows.
import Database from 'better-sqlite3';
import express from 'express';
import { listen, rows, verified } from './posts.mjs';

const database = new Database(process.env.BENCH_DATABASE);
database.pragma('journal_mode = WAL');
database.pragma('synchronous = NORMAL');
database.exec(`CREATE TABLE posts (id INTEGER PRIMARY KEY, title VARCHAR(255) NOT NULL, body TEXT,
  status VARCHAR(255), views BIGINT, published_at DATETIME)`);
const insert = database.prepare(`INSERT INTO posts (title, body, status, views, published_at)
  VALUES (@title, @body, @status, @views, @published_at) RETURNING *`);
database.transaction(() => {
  for (const row of rows()) insert.get(row);
})();
const one = database.prepare('SELECT * FROM posts WHERE id = ?');
const page = database.prepare('SELECT * FROM posts WHERE status = ? ORDER BY id LIMIT 20');
const count = database.prepare('SELECT count(*) AS total FROM posts WHERE status = ?');

const app = express();
app.use(verified);
app.get('/posts/:id', (request, response) => response.json(one.get(Number(request.params.id))));
app.get('/posts', (request, response) => {
  const { status } = request.query;
  response.json({ data: page.all(status), total: count.get(status).total });
});
app.post('/posts', express.json(), (request, response) => {
  const values = { title: null, body: null, status: null, views: 0, published_at: null };
  response.status(201).json(insert.get({ ...values, ...request.body }));
});
listen(app);
