// What the tests share: tokens, a line that can be cut and delayed, and words with the server.

import { createHmac } from 'node:crypto';
import { connect, createServer } from 'node:net';

export const CONTROL = process.env.TIDINGS_CONTROL;
const SECRET = process.env.TIDINGS_SECRET;
const MEDIA_TYPE = 'application/vnd.api+json';
let target = process.env.TIDINGS_URL;

/** Where the server is now: it moves when it is restarted. */
export const server = () => target;

/** Has the server do something: see `World` in tests/clients/server.py. */
export async function command(name, given = {}) {
  const response = await fetch(`${CONTROL}/${name}`, { method: 'POST', body: JSON.stringify(given) });
  if (!response.ok) throw new Error(`${name}: ${response.status} ${await response.text()}`);
  const { url, result } = await response.json();
  target = url;
  return result;
}

/** A token of a user that ends after a number of seconds. */
export function tokenOf(sub, seconds = 3600) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const now = Date.now() / 1000;
  const jti = Math.random().toString(36).slice(2);
  const text = `${part({ alg: 'HS256', typ: 'JWT' })}.${part({ sub, jti, iat: now, exp: now + seconds })}`;
  return `${text}.${createHmac('sha256', SECRET).update(text).digest('base64url')}`;
}

/** Sends a request past all lines and clients, and tries again while the server restarts. */
export async function direct(method, path, data, token = tokenOf('direct')) {
  const headers = { accept: MEDIA_TYPE, authorization: `Bearer ${token}` };
  if (data) headers['content-type'] = MEDIA_TYPE;
  const body = data && JSON.stringify({ data });
  for (const end = Date.now() + 60_000; ; ) {
    try {
      const response = await fetch(`${target}/api${path}`, { method, headers, body });
      if (response.status === 503) throw new Error('busy');
      return response.status === 204 ? {} : await response.json();
    } catch (error) {
      if (Date.now() > end) throw error;
      await sleep(20);
    }
  }
}

export const create = async (attributes, type = 'posts') =>
  (await direct('POST', `/${type}`, { type, attributes })).data.id;
export const update = (id, attributes, type = 'posts') =>
  direct('PATCH', `/${type}/${id}`, { type, id, attributes });
export const remove = (id, type = 'posts') => direct('DELETE', `/${type}/${id}`);

/** All pages of a list that nobody changes meanwhile. */
export async function answerOf(query, path = '/posts') {
  const data = [];
  const included = new Map();
  for (let number = 1; ; number++) {
    const page = await direct('GET', `${path}?${query}&page[size]=100&page[number]=${number}`);
    if (page.errors) throw new Error(JSON.stringify(page.errors));
    data.push(...page.data);
    for (const record of page.included ?? []) included.set(`${record.type} ${record.id}`, record);
    if (!page.links.next) return { data, included: [...included.values()] };
  }
}

export const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Waits until something holds. The patience is for a hung test, not for a slow machine. */
export async function until(holds, what = holds, patience = 30_000) {
  const end = Date.now() + patience;
  for (;;) {
    const found = await holds();
    if (found) return found;
    if (Date.now() > end) throw new Error(`never: ${typeof what === 'function' ? what() : what}`);
    await sleep(5);
  }
}

/** A line to the server that can be delayed, cut (abruptly) and mended. */
export class Line {
  static async open(delay = () => 0) {
    const line = new Line(delay);
    await line.mend();
    return line;
  }

  constructor(delay) {
    this.delay = delay;
    this.port = 0;
    this.ends = new Set();
    this.listener = createServer((near) => this.#join(near));
  }

  get url() {
    return `http://127.0.0.1:${this.port}`;
  }

  async cut() {
    const closed = new Promise((resolve) => this.listener.close(resolve));
    for (const end of this.ends) end.destroy();
    await closed;
  }

  async mend() {
    await new Promise((resolve) => this.listener.listen(this.port, '127.0.0.1', resolve));
    this.port = this.listener.address().port;
  }

  async close() {
    if (this.listener.listening) await this.cut();
  }

  #join(near) {
    const far = connect(new URL(target).port, '127.0.0.1');
    this.#carry(near, far);
    this.#carry(far, near);
  }

  /** Delays what one end says, and that it ends, without changing the order. */
  #carry(from, to) {
    // Timers of unequal length do not keep their order, so each waits for the one before.
    let last = Promise.resolve();
    const later = (act) => {
      const due = Date.now() + this.delay();
      last = last.then(() => (due > Date.now() ? sleep(due - Date.now()) : null)).then(act);
    };
    this.ends.add(from);
    from.on('error', () => null);
    from.on('data', (chunk) => later(() => to.writable && to.write(chunk)));
    from.on('close', () => {
      this.ends.delete(from);
      later(() => to.destroySoon());
    });
  }
}

/** A `fetch` that counts, can be delayed, and can be held at a gate before its answer is given. */
export function tracedFetch({ delay = () => 0 } = {}) {
  const traced = async (url, init) => {
    traced.urls.push(decodeURIComponent(String(url)));
    traced.open++;
    try {
      await sleep(delay());
      const response = await fetch(url, init);
      const body = await response.arrayBuffer();
      await sleep(delay());
      await traced.gate?.(String(url));
      const { status, headers } = response;
      return new Response(status === 204 ? null : body, { status, headers });
    } finally {
      traced.open--;
    }
  };
  return Object.assign(traced, { urls: [], open: 0, gate: null });
}

/** A gate that holds what comes until it is opened. `reached` is fulfilled when something came. */
export function gate(matches = () => true) {
  let open;
  let reach;
  const opened = new Promise((resolve) => (open = resolve));
  const reached = new Promise((resolve) => (reach = resolve));
  const pass = async (url) => {
    if (!matches(decodeURIComponent(url))) return;
    reach();
    await opened;
  };
  return Object.assign(pass, { open, reached });
}

export const SOCKET = { reconnectionDelay: 20, reconnectionDelayMax: 100 };
