import { canonical, createHttp } from './http.js';
import { createList, type ManagedList } from './list.js';
import { createConnection, type Member } from './socket.js';
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
      // What is sent and compared is JSON; a function that compares is not.
      const wanted: ListOptions = { ...JSON.parse(canonical(given)), sort: given.sort };
      const key = canonical([resource, wanted, `${given.sort}`]);
      let list = lists.get(key);
      if (!list) {
        const keep = (used: boolean) => {
          if (used) lists.set(key, list!);
          else if (lists.get(key) === list) lists.delete(key);
        };
        list = createList(resource, wanted, { http, batch, pageSize, linger, keep, join: connection.join }, initial);
        keep(true);
      }
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
      for (const list of lists.values()) list.stop();
      connection.close();
    },
  };
}
