// The JSON:API side: everything that the page shows comes through here.

const MEDIA_TYPE = 'application/vnd.api+json';
const PAGE_SIZE = '100';

export class RestError extends Error {
  constructor(status, errors) {
    super(errors.map(readable).join(' ') || `The server answered ${status}.`);
    this.status = status;
    this.errors = errors;
  }
}

export function readable({ detail, title }) {
  const text = detail ?? title ?? 'Something went wrong';
  return text.endsWith('.') ? text : `${text}.`;
}

export class Rest {
  constructor(token, onRefetch) {
    this.token = token;
    this.onRefetch = onRefetch;
  }

  async list(filters) {
    const query = new URLSearchParams({ include: 'author', sort: '-id', 'page[size]': PAGE_SIZE });
    for (const [name, value] of Object.entries(filters)) query.set(`filter[${name}]`, value);
    const document = await this.#send('GET', `/api/posts?${query}`);
    this.onRefetch('list');
    return document.data.map((record) => flattened(record, document.included));
  }

  async item(id) {
    const path = `/api/posts/${encodeURIComponent(id)}?include=author`;
    this.onRefetch('item');
    const document = await this.#send('GET', path);
    return flattened(document.data, document.included);
  }

  create(attributes) {
    return this.#send('POST', '/api/posts', { type: 'posts', attributes });
  }

  update(id, attributes) {
    const path = `/api/posts/${encodeURIComponent(id)}`;
    return this.#send('PATCH', path, { type: 'posts', id, attributes });
  }

  remove(id) {
    return this.#send('DELETE', `/api/posts/${encodeURIComponent(id)}`);
  }

  async #send(method, path, data) {
    const headers = { accept: MEDIA_TYPE, authorization: `Bearer ${this.token}` };
    const request = { method, headers };
    if (data) {
      headers['content-type'] = MEDIA_TYPE;
      request.body = JSON.stringify({ data });
    }
    const response = await answered(path, request);
    if (response.status === 204) return null;
    const document = await response.json().catch(() => ({}));
    if (!response.ok) throw new RestError(response.status, document.errors ?? []);
    return document;
  }
}

async function answered(path, request) {
  try {
    return await fetch(path, request);
  } catch {
    throw new RestError(0, [{ detail: 'The server cannot be reached' }]);
  }
}

function flattened(record, included = []) {
  const link = record.relationships.author.data;
  const author = included.find(({ type, id }) => type === link.type && id === link.id);
  return { id: record.id, ...record.attributes, author: author?.attributes.name ?? 'Somebody' };
}
