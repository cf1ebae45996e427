import { isFinal, queryOf, type Http, type TidingsError } from './http.js';
import type { Member, Watch } from './socket.js';
import type { Filters, ListDocument, ListOptions, LiveList, ResourceObject, Snapshot } from './types.js';

/** What a list needs of its client. */
export interface ListSettings {
  http: Http;
  batch: number;
  pageSize: number;
  linger: number;
  /** Takes part in a subscription. */
  join(member: Member, resource: string, filters: Filters): Watch;
  /** Keeps the list for others who ask for the same, or does not. */
  keep(used: boolean): void;
}

type Cursor = string | undefined;
type Row = { record: ResourceObject; cursor: Cursor };

/** The list as its client sees it. */
export interface ManagedList extends LiveList, Member {
  /** Stops at once. */
  stop(): void;
}

/**
 * Whether what was read at `place` already holds the change at `cursor`. Offsets of two epochs cannot
 * be compared: the server's history began anew.
 */
export function holds(place = '', cursor = '.'): boolean {
  const [epoch, offset] = place.split('.');
  const [otherEpoch, otherOffset] = cursor.split('.');
  return epoch === otherEpoch && +offset! >= +otherOffset!;
}

/**
 * What a value is ordered by. Ids that are numbers are ordered as numbers, text by code point:
 * JavaScript compares UTF-16 units, where surrogates come before U+E000 to U+FFFF.
 */
const rank = (value: any, isId: boolean): any =>
  typeof value !== 'string'
    ? value
    : isId && /^-?\d+$/.test(value)
      ? Number(value)
      : value.replace(/[\ud800-\uffff]/g, (unit) =>
          String.fromCharCode(unit.charCodeAt(0) + (unit < '\ue000' ? 0x2000 : -0x800)),
        );

/** Compares as the server does: nulls last, and the id decides between equals. */
export const comparing =
  (sort: readonly string[]) =>
  (one: any, other: any): number => {
    for (const key of [...sort, 'id']) {
      const name = key.replace('-', '');
      const [a, b] = [one, other].map((record) =>
        name === 'id' ? rank(record.id, true) : rank(record.attributes[name] ?? null, false),
      );
      if (a === b) continue;
      if (a === null || b === null) return a === null ? 1 : -1;
      return a < b === (key === name) ? -1 : 1;
    }
    return 0;
  };

/**
 * A list that is loaded once and then kept by asking again for the ids that changed.
 *
 * One loop (`run`) sends all requests of a list, one after the other, so that no answer can overtake
 * another one. What comes in meanwhile is written down in `dirty` and `stale`, and looked at next.
 */
export function createList(
  resource: string,
  options: ListOptions,
  settings: ListSettings,
  initial?: ListDocument,
): ManagedList {
  const { http, batch, pageSize, linger, join, keep } = settings;
  const path = `/${resource}`;
  const { sort = [] } = options;
  const order = typeof sort === 'function' ? sort : comparing(sort);
  const listeners = new Set<() => void>();

  let rows = new Map<string, Row>();
  let included = new Map<string, ResourceObject>();
  let base: Cursor; // The place before the last load: what is not in `rows` was absent there.
  let watch: Watch | undefined;
  let stale = true; // All of it has to be loaded.
  const dirty = new Map<string, Cursor>(); // What to look at; without a cursor, in any case.
  let marked = 0; // When the last id came.
  let hurried = false;
  let fetching = false;
  let running = false;
  let loaded = false;
  let followed = false; // Whether the subscription is active.
  let error: Error | undefined;
  let refusal: Error | undefined; // Why the subscription is not active.
  let waiters: (() => void)[] = [];
  let wake = () => {};
  let timer: ReturnType<typeof setTimeout> | undefined;
  let snapshot: Snapshot;

  const publish = () => {
    snapshot = {
      data: [...rows.values()].map((row) => row.record).sort(order),
      included: [...included.values()],
      status: loaded ? 'ready' : error ? 'error' : 'loading',
      error: error ?? refusal,
      isLive: followed && loaded && !stale && !error,
    };
    for (const listener of [...listeners]) listener();
  };

  const pause = (milliseconds: number) =>
    new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });

  const take = (document: ListDocument, into: Map<string, Row>, related: typeof included) => {
    for (const record of document.data) into.set(record.id, { record, cursor: document.meta.cursor });
    for (const record of document.included ?? []) related.set(`${record.type} ${record.id}`, record);
  };

  /** Forgets related records that no record leads to. Sparse fieldsets may hide what does. */
  const prune = () => {
    if (!included.size || options.fields) return;
    const kept = new Map<string, ResourceObject>();
    const visit = (record: ResourceObject) => {
      for (const { data } of Object.values(record.relationships ?? {})) {
        for (const { type, id } of [data ?? []].flat()) {
          const key = `${type} ${id}`;
          const found = included.get(key);
          if (!found || kept.has(key)) continue;
          kept.set(key, found);
          visit(found);
        }
      }
    };
    for (const { record } of rows.values()) visit(record);
    included = kept;
  };

  /** Loads all pages, in the order of the ids, which do not change. */
  const load = async () => {
    const fresh = new Map<string, Row>();
    const related: typeof included = new Map();
    let first: Cursor;
    stale = false;
    for (let offset = 0; ; ) {
      const document: ListDocument = await http.request(
        'GET',
        path + queryOf(options, { sort: 'id', 'page[offset]': offset, 'page[limit]': pageSize }),
      );
      const { data, meta } = document;
      if (!first) {
        first = meta.cursor;
        watch?.anchor(first);
      }
      // Each page begins with the last record of those before. If it does not, records have left
      // meanwhile and others have moved into pages that were read: go back until they meet.
      if (offset && !(data[0] && fresh.has(data[0].id))) {
        offset = Math.max(0, offset - (pageSize >> 1));
        continue;
      }
      take(document, fresh, related);
      if (data.length < pageSize) break;
      offset += data.length - 1;
    }
    for (const [id, cursor] of dirty) {
      if (holds(fresh.get(id)?.cursor ?? first, cursor)) dirty.delete(id);
      else {
        // It is looked at next. Until then it stays as it was, so that nothing that has left flickers.
        const row = rows.get(id);
        if (row) fresh.set(id, row);
        else fresh.delete(id);
      }
    }
    rows = fresh;
    included = related;
    base = first;
    loaded = true;
  };

  /** Asks for the records that changed, with the list's own filter: what is absent has left. */
  const refetch = async () => {
    const taken = [...dirty].filter(([id, cursor]) => !holds(rows.get(id)?.cursor ?? base, cursor));
    dirty.clear();
    try {
      while (taken.length) {
        const ids = taken.slice(0, pageSize).map(([id]) => id);
        const filters = { ...options.filters, id: ids.some((id) => id.includes(',')) ? ids : ids.join() };
        const document: ListDocument = await http.request(
          'GET',
          path + queryOf({ ...options, filters }, { 'page[limit]': pageSize }),
        );
        const found = new Map<string, Row>();
        take(document, found, included);
        for (const id of ids) {
          // What has changed again meanwhile is asked for again.
          if (dirty.has(id)) continue;
          const row = found.get(id);
          if (row) rows.set(id, row);
          else rows.delete(id);
        }
        taken.splice(0, pageSize);
        prune();
        publish();
      }
    } catch (failure) {
      for (const [id, cursor] of taken) if (!dirty.has(id)) dirty.set(id, cursor);
      throw failure;
    }
  };

  /** Waits for the rest of a burst: until no more comes, and ten times as long at most. */
  const gather = async () => {
    for (let turn = 0; !hurried && turn < 19; turn++) {
      if (turn && Date.now() - marked > batch / 2) break;
      await pause(turn ? batch / 2 : batch);
    }
  };

  const run = async () => {
    if (running) return;
    running = true;
    let failures = 0;
    while (watch && (stale || dirty.size)) {
      if (!stale) await gather();
      if (!watch) break;
      const done = waiters;
      // After a refusal there is nothing to add to; and a list that is filtered by ids cannot be asked
      // for other ids.
      const all = stale || !loaded || !!options.filters?.id;
      waiters = [];
      hurried = false;
      fetching = true;
      try {
        await (all ? load() : refetch());
        failures = 0;
        if (all || error) {
          error = undefined;
          publish();
        }
      } catch (failure) {
        stale ||= all;
        error = failure as Error;
        if (isFinal(failure)) {
          // There is nothing that this user may see.
          rows.clear();
          included.clear();
          dirty.clear();
          loaded = stale = false;
        }
        publish();
      }
      fetching = false;
      for (const resolve of done) resolve();
      if (error && watch && (stale || dirty.size)) {
        const backoff = Math.min(30_000, 250 * 2 ** failures++) * (0.5 + Math.random());
        await pause(Math.max(backoff, ((error as TidingsError).retryAfter ?? 0) * 1000));
      }
    }
    running = false;
    for (const resolve of waiters.splice(0)) resolve();
  };

  const mark = (id: string, cursor: Cursor) => {
    marked = Date.now();
    // A record that has to be read in any case stays so.
    if (!dirty.has(id) || dirty.get(id)) dirty.set(id, cursor);
    void run();
  };

  if (initial) {
    take(initial, rows, included);
    base = initial.meta.cursor;
    loaded = true;
    stale = false;
  }
  publish();

  const start = () => {
    keep(true);
    watch = join(list, resource, options.filters ?? {});
    // The others are told of what comes after their cursor; what came before it would be missed.
    if (watch.cursor && !holds(base, watch.cursor)) stale = true;
    if (!stale) watch.anchor(base);
    void run();
  };

  const list: ManagedList = {
    getSnapshot: () => snapshot,
    subscribe(changed) {
      // A function of its own, since the same one may be given twice; and the loop has to go on
      // where it throws.
      const listener = () => {
        try {
          changed();
        } catch (thrown) {
          queueMicrotask(() => {
            throw thrown;
          });
        }
      };
      listeners.add(listener);
      clearTimeout(timer);
      if (!watch) start();
      return () => {
        if (listeners.delete(listener) && !listeners.size) timer = setTimeout(list.stop, linger);
      };
    },
    reload: () => list.resync(),
    stop() {
      keep(false);
      watch?.leave(list);
      watch = undefined;
      stale = true;
      followed = false;
      wake();
    },
    get needsAnchor() {
      return !watch || stale || fetching;
    },
    changed(id, change, cursor) {
      if (holds(rows.get(id)?.cursor, cursor)) return;
      if (change !== 'leave') return mark(id, cursor);
      const left = rows.delete(id);
      // A request that is under way may bring it back: then look again.
      if (fetching || dirty.has(id)) mark(id, cursor);
      if (left) {
        prune();
        publish();
      }
    },
    touch(id) {
      dirty.set(id, undefined);
      hurried = true;
      return new Promise((resolve) => {
        waiters.push(resolve);
        wake();
        void run();
      });
    },
    resync() {
      stale = true;
      publish();
      wake();
      void run();
    },
    follows(active, failure) {
      followed = active;
      refusal = failure;
      // After an error that was final it may be another server, or another token.
      if (active && error && !running) stale = true;
      publish();
      wake();
      void run();
    },
  };
  return list;
}
