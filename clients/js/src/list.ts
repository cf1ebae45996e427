import { isFinal, queryOf, TidingsError, type Http } from './http.js';
import type { Member, Watch } from './socket.js';
import type { ListDocument, ListOptions, LiveList, ResourceObject, Snapshot } from './types.js';

/** What a list needs of its client. */
export interface ListSettings {
  http: Http;
  batch: number;
  pageSize: number;
}

type Cursor = string | undefined;
type Row = { record: ResourceObject; cursor: Cursor };

/** The list as its client sees it. */
export interface ManagedList extends LiveList, Member {
  /** Begins to follow `watch`, or stops following any. */
  follow(watch: Watch | undefined): void;
}

/** Whether what was read at `place` already holds the change at `cursor`. */
export function holds(place: Cursor, cursor: Cursor): boolean {
  if (!place || !cursor) return false;
  const [epoch, offset] = place.split('.');
  const [otherEpoch, otherOffset] = cursor.split('.');
  // Offsets of two epochs cannot be compared: the server's history began anew.
  return epoch === otherEpoch && Number(offset) >= Number(otherOffset);
}

/** Compares as the server does: nulls last, text by code point, then by id. */
export function comparing(sort: readonly string[]): (one: ResourceObject, other: ResourceObject) => number {
  const keys = sort.map((name) => (name[0] === '-' ? ([name.slice(1), -1] as const) : ([name, 1] as const)));
  if (!keys.some(([name]) => name === 'id')) keys.push(['id', 1]);
  const value = (record: any, name: string) => (name === 'id' ? record.id : record.attributes[name]);
  return (one, other) => {
    for (const [name, sign] of keys) {
      const [a, b] = [value(one, name), value(other, name)];
      const order =
        a == null || b == null
          ? (a == null ? 1 : 0) - (b == null ? 1 : 0)
          : sign * (name === 'id' ? compareIds(a, b) : compare(a, b));
      if (order) return order;
    }
    return 0;
  };
}

const compareIds = (a: string, b: string) =>
  /^-?\d+$/.test(a) && /^-?\d+$/.test(b) ? Number(a) - Number(b) || compare(a, b) : compare(a, b);

function compare(a: any, b: any): number {
  if (typeof a === 'string' && typeof b === 'string') {
    // JavaScript compares UTF-16 units, where pairs of surrogates come before U+E000 to U+FFFF.
    let at = 0;
    while (at < a.length && a[at] === b[at]) at++;
    if (/[\udc00-\udfff]/.test(a[at] ?? '') || /[\udc00-\udfff]/.test(b[at] ?? '')) at--;
    return (a.codePointAt(at) ?? -1) - (b.codePointAt(at) ?? -1);
  }
  return a < b ? -1 : a > b ? 1 : 0;
}

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
  used: (list: ManagedList, by: 1 | -1) => void,
  initial?: ListDocument,
): ManagedList {
  const { http, batch, pageSize } = settings;
  const path = `/${encodeURIComponent(resource)}`;
  const { sort = [] } = options;
  const order = typeof sort === 'function' ? sort : comparing(sort);
  const shown = options.fields?.[resource];
  if (shown && typeof sort !== 'function') {
    // The list is put in order here, so what it is ordered by has to be there.
    const names = sort.map((name) => name.replace('-', '')).filter((name) => name !== 'id');
    options = { ...options, fields: { ...options.fields, [resource]: [...new Set([...shown, ...names])] } };
  }
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
    const wanted = options.filters?.id;
    const chosen = wanted === undefined ? undefined : [wanted].flat().map(String);
    const taken = [...dirty].filter(([id, cursor]) => {
      if (holds(rows.get(id)?.cursor ?? base, cursor)) return false;
      return !chosen || chosen.includes(id);
    });
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

  /** Waits for the rest of a burst: until no more comes, and not for ever. */
  const gather = async () => {
    const begun = Date.now();
    let left = batch;
    while (!hurried && left > 0) {
      await pause(left);
      const now = Date.now();
      left = now - begun < 3 * batch ? Math.min(batch / 4, marked + batch / 4 - now) : 0;
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
      const all = stale;
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
        if (failure instanceof TidingsError && isFinal(failure)) {
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

  const list: ManagedList = {
    getSnapshot: () => snapshot,
    subscribe(changed) {
      // The same function may be given twice.
      const listener = () => changed();
      listeners.add(listener);
      used(list, 1);
      return () => {
        if (listeners.delete(listener)) used(list, -1);
      };
    },
    reload: () => list.resync(),
    follow(next) {
      if (!next) {
        stale = true;
        followed = false;
      } else if (next.cursor && !holds(base, next.cursor)) {
        // The others are told of what comes after that; what came between would be missed.
        stale = true;
      }
      watch = next;
      if (!stale) watch?.anchor(base);
      wake();
      void run();
    },
    get needsAnchor() {
      return stale || fetching;
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
    follows(active) {
      if (followed === active) return;
      followed = active;
      if (active) {
        refusal = undefined;
        // After an error that was final it may be another server, or another token.
        if (error && !running) stale = true;
      }
      publish();
      wake();
      void run();
    },
    fail(failure) {
      refusal = failure;
      publish();
    },
    wake: () => wake(),
  };
  return list;
}
