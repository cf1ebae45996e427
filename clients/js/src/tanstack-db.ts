import type { CollectionConfig, SyncConfig } from '@tanstack/db';

import type { AnySchema, Client, Filters, ResourceObject, SchemaOf } from './types.js';

/** A record as a row: its id and its attributes beside each other. */
export type Row<R extends ResourceObject = ResourceObject> = { id: string } & R['attributes'];

/** What a collection holds. */
export interface CollectionOptions<S extends SchemaOf<S>, N extends keyof S & string> {
  client: Client<S>;
  /** The resource's name. */
  resource: N;
  /** Which of its records; all of them without. */
  filters?: Filters | undefined;
  /** The collection's id, made of the resource and the filters by default. */
  id?: string | undefined;
}

/**
 * Options for `createCollection` of TanStack DB: the collection follows the server while it is used.
 * Inserts, updates and deletes show at once, are sent, and are taken back where the server refuses.
 *
 * @example
 * const posts = createCollection(tidingsCollectionOptions({ client, resource: 'posts' }));
 */
export function tidingsCollectionOptions<
  S extends SchemaOf<S> = AnySchema,
  N extends keyof S & string = keyof S & string,
>({ client, resource, filters, id }: CollectionOptions<S, N>): CollectionConfig<Row<S[N]>, string> & { id: string } {
  type R = Row<S[N]>;
  const rowOf = (record: S[N]): R => ({ id: record.id, ...record.attributes }) as R;

  const sync: SyncConfig<R, string> = {
    rowUpdateMode: 'full',
    sync({ begin, write, commit, markReady }) {
      const list = client.live(resource, { filters });
      let shown = new Map<string, S[N]>();
      const compare = () => {
        const { data, status } = list.getSnapshot();
        if (status === 'loading') return;
        const records = new Map(data.map((record) => [record.id, record]));
        begin();
        for (const [key, record] of shown) {
          if (!records.has(key)) write({ type: 'delete', value: rowOf(record) });
        }
        for (const [key, record] of records) {
          const before = shown.get(key);
          // A record that was not fetched again is the same object.
          if (before !== record) write({ type: before ? 'update' : 'insert', value: rowOf(record) });
        }
        shown = records;
        commit();
        markReady();
      };
      const off = list.subscribe(compare);
      compare();
      return off;
    },
  };

  // Each is done when the list has the record, so that a row does not fall back for a moment.
  return {
    id: id ?? `${resource} ${JSON.stringify(filters ?? {})}`,
    getKey: (row) => row.id,
    sync,
    onInsert: async ({ transaction }) => {
      for (const { modified } of transaction.mutations) {
        const { id: _, ...attributes } = modified;
        await client.create(resource, attributes as Partial<S[N]['attributes']>);
      }
    },
    onUpdate: async ({ transaction }) => {
      for (const { key, changes } of transaction.mutations) {
        await client.update(resource, key, changes as Partial<S[N]['attributes']>);
      }
    },
    onDelete: async ({ transaction }) => {
      for (const { key } of transaction.mutations) await client.remove(resource, key);
    },
  };
}
