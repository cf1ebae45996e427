// What both servers have in common: the rows, and the check of the token.
import jwt from 'jsonwebtoken';

export const ROWS = 1000;
const STATUSES = ['draft', 'published', 'archived', 'review'];

export function* rows() {
  for (let number = 0; number < ROWS; number += 1) {
    yield {
      title: `Post ${number}`,
      body: 'Lorem ipsum dolor sit amet. '.repeat(8),
      status: STATUSES[number % STATUSES.length],
      views: 0,
      published_at: '2026-01-15T10:00:00.000Z',
    };
  }
}

// Express middleware: 401 without a token of ours.
export function verified(request, response, next) {
  try {
    const token = (request.headers.authorization ?? '').replace(/^Bearer /, '');
    request.claims = jwt.verify(token, process.env.BENCH_SECRET, { algorithms: ['HS256'] });
  } catch {
    response.status(401).end();
    return;
  }
  next();
}

export function listen(app) {
  app.listen(Number(process.argv[2]), '127.0.0.1');
}
