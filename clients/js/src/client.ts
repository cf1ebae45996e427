import { canonical, createHttp } from './http.js';
import { createList, type ManagedList } from './list.js';
import { createConnection, type Member, type Watch } from './socket.js';
import type {
  AnySchema,
  Client,
  ClientOptions,
  Filters,
  ListDocument,
  ListOptions,
  SchemaOf,
  Status,
  WriteOptions,
} from './types.js';

/**
 * A client of one tidings server for one user. It connects when the first list is used.
 *
 * @example
 * const client = createClient({ url: 'https://example.org', token: () => getToken() });
 * const posts = client.live('posts', { filters: { status: 'published' } });
 * posts.subscribe(() => render(posts.getSnapshot().data));
 */
export function createClient<S extends SchemaOf<S> = AnySchema>(options: ClientOptions = {}): Client<S> {
  const { batch = 100, pageSize = 100, linger = 1000 } = options;
  const http = createHttp(options);
  const statusListeners = new Set<(status: Status, error?: Error) => void>();
  const connection = createConnection(http, options, (status, error) => {
    for (const listener of [...statusListeners]) listener(status, error);
  });
  const lists = new Map<string, ManagedList>();

  const makeList = (key: string, resource: string, wanted: ListOptions, initial?: ListDocument) => {
    let users = 0;
    let watch: Watch | undefined;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const stop = () => {
      if (lists.get(key) === list) lists.delete(key);
      watch?.leave(list);
      watch = undefined;
      list.follow(undefined);
    };
    const list = createList(
      resource,
      wanted,
      { http, batch, pageSize },
      (_, by) => {
        users += by;
        clearTimeout(timer);
        if (!users) timer = setTimeout(stop, linger);
        else if (!watch) {
          if (!lists.has(key)) lists.set(key, list);
          watch = connection.join(list, resource, wanted.filters ?? {});
          list.follow(watch);
        }
      },
      initial,
    );
    return list;
  };

  /** A member that collects ids, for those who have a cache of their own. */
  const makeCollector = (changed: (ids: string[] | null) => void, failed?: (error: Error) => void) => {
    let ids: Set<string> | null = new Set();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const soon = () => {
      timer ??= setTimeout(() => {
        const told = ids && [...ids];
        ids = new Set();
        timer = undefined;
        changed(told);
      }, batch);
    };
    const add = (id: string) => {
      ids?.add(id);
      soon();
    };
    const member: Member = {
      needsAnchor: false,
      changed: add,
      touch: async (id) => add(id),
      resync() {
        ids = null;
        soon();
      },
      follows: (_, error) => error && failed?.(error),
    };
    return { member, stop: () => clearTimeout(timer) };
  };

  /** Writes, and lets all who watch the resource look at the record. */
  const write = async (method: string, resource: string, id: string | undefined, data?: object) => {
    const path = `/${resource}${method === 'POST' ? '' : `/${encodeURIComponent(id!)}`}`;
    const document = await http.request(method, path, data && { data: { type: resource, id, ...data } });
    const touched: string = document?.data.id ?? id;
    await Promise.all(connection.members(resource).map((member) => member.touch(touched)));
    return document?.data;
  };

  return {
    get status() {
      return connection.status;
    },
    onStatus(changed) {
      const listener: typeof changed = (...told) => changed(...told);
      statusListeners.add(listener);
      return () => void statusListeners.delete(listener);
    },
    live(resource, { initial, ...given } = {}) {
      // What is sent and compared is JSON; the function is not.
      const wanted: ListOptions = { ...JSON.parse(canonical(given)), sort: given.sort };
      const key = canonical([resource, wanted, typeof given.sort === 'function' && String(given.sort)]);
      let list = lists.get(key);
      if (!list) lists.set(key, (list = makeList(key, resource, wanted, initial)));
      return list as any;
    },
    create: (resource, attributes, { id, ...more }: WriteOptions = {}) =>
      write('POST', resource, id, { attributes, ...more }),
    update: (resource, id, attributes, more) => write('PATCH', resource, id, { attributes, ...more }),
    remove: (resource, id) => write('DELETE', resource, id),
    onChange(resource, filters, changed, failed) {
      const { member, stop } = makeCollector(changed, failed);
      const watch = connection.join(member, resource, JSON.parse(canonical(filters ?? {})) as Filters);
      return () => {
        stop();
        watch.leave(member);
      };
    },
    request: http.request,
    close() {
      for (const list of lists.values()) list.follow(undefined);
      connection.close();
    },
  };
}
