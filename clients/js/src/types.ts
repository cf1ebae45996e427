/** A resource object of JSON:API. */
export interface ResourceObject {
  type: string;
  id: string;
  attributes: object;
  relationships?: object;
}

/**
 * Which resources an api has: from a resource's name to the type of its resource objects.
 * {@link Resources} makes one from the output of `openapi-typescript`.
 */
export type SchemaOf<S> = { [K in keyof S]: ResourceObject };

/** The schema of a client that was given none: every name is a resource, every attribute `any`. */
export interface AnySchema {
  [resource: string]: {
    type: string;
    id: string;
    attributes: Record<string, any>;
    relationships?: Record<string, any>;
  };
}

/**
 * The schema in the output of `openapi-typescript`.
 *
 * @example
 * import type { components } from './schema';
 * const client = createClient<Resources<components>>();
 */
export type Resources<C extends { schemas: object }> = {
  [K in keyof C['schemas'] as C['schemas'][K] extends { links: object; attributes: object }
    ? TypeOf<C['schemas'][K]>
    : never]: Extract<C['schemas'][K], ResourceObject>;
};

type TypeOf<R> = R extends { type: infer T extends string; id: string }
  ? string extends T
    ? never
    : T
  : never;

/** A filter's value: JSON, as `filters` of a subscription takes it. */
export type Filters = { readonly [name: string]: unknown };

/** What a list selects and shows. */
export interface ListOptions<R extends ResourceObject = ResourceObject> {
  /** Names and values of the resource's search schema. Without any, every record. */
  filters?: Filters | undefined;
  /** Relationship paths whose records come along as `included`. */
  include?: readonly string[] | undefined;
  /** Sparse fieldsets: the attributes and relationships to show, by resource. */
  fields?: { readonly [resource: string]: readonly string[] } | undefined;
  /**
   * Names of attributes, `-` before a name for descending, as JSON:API has them; or a function that
   * compares two records. By default the order is that of the ids. The list is put in order in the
   * client: where `fields` names what to show, it has to name these attributes, too.
   */
  sort?: readonly string[] | ((one: R, other: R) => number) | undefined;
}

/** A document of JSON:API that holds a list, with the cursor that tidings puts into it. */
export interface ListDocument<R extends ResourceObject = ResourceObject> {
  data: readonly R[];
  included?: readonly ResourceObject[];
  meta: { cursor: string };
}

/** What a list shows at one moment. It is never changed; a change makes another one. */
export interface Snapshot<R extends ResourceObject = ResourceObject> {
  /** The records, in order. What was loaded stays here while it is being refetched. */
  readonly data: readonly R[];
  /** The related records that `include` asked for. */
  readonly included: readonly ResourceObject[];
  /** `loading` before the first answer, `ready` after it, `error` where there is none to show. */
  readonly status: 'loading' | 'ready' | 'error';
  /** Why there is nothing to show, or why what is shown may be old; `undefined` if all is well. */
  readonly error: Error | undefined;
  /** Whether changes are being followed. Otherwise the data may be old. */
  readonly isLive: boolean;
}

/** A list that follows the server. Equal lists of a client are one object. */
export interface LiveList<R extends ResourceObject = ResourceObject> {
  /** What it shows now. The same object until something changes. */
  getSnapshot(): Snapshot<R>;
  /** Calls `changed` after each change, until the function that it returns is called. */
  subscribe(changed: () => void): () => void;
  /** Loads everything again. Needed only after an error that the client does not retry. */
  reload(): void;
}

/**
 * `connecting` until the first connection, then `live`; `offline` while the server cannot be
 * reached; `refused` while it does not accept the token. The client keeps trying in each of them.
 */
export type Status = 'connecting' | 'live' | 'offline' | 'refused';

/** Gives the token. `renew` is true when the last one has expired or was refused. */
export type TokenSource =
  | string
  | ((wanted: { renew: boolean }) => string | null | undefined | Promise<string | null | undefined>);

/** What {@link createClient} needs to know. */
export interface ClientOptions {
  /** Where the server is; by default where the page comes from. */
  url?: string | undefined;
  /** The path before the resources' names, `/api` by default. */
  prefix?: string | undefined;
  /** The token, or the function that gets one. Without it requests are anonymous. */
  token?: TokenSource | undefined;
  /** The path of Socket.IO, `/socket.io` by default. */
  socketPath?: string | undefined;
  /** More options of socket.io-client, such as `transports`. */
  socket?: Record<string, unknown> | undefined;
  /**
   * Milliseconds in which changes are collected before they are fetched together, 100 by default.
   * Less makes more requests of a burst; more shows a change later.
   */
  batch?: number | undefined;
  /**
   * Records per request, 100 by default. More than the server's `max_page_size` is refused by it;
   * fewer make more requests. At least 2.
   */
  pageSize?: number | undefined;
  /** Milliseconds for which a list that nobody uses is still followed, 1000 by default. */
  linger?: number | undefined;
  /** Used instead of the global `fetch`. */
  fetch?: typeof fetch | undefined;
}

/** What a write may say beside the attributes. */
export interface WriteOptions {
  /** Relationships by name, each `{ data: ... }`. */
  relationships?: { readonly [name: string]: { data: unknown } } | undefined;
  /** The new record's id, where the resource lets clients choose it. */
  id?: string | undefined;
}

/** A connection to one tidings server for one user. */
export interface Client<S extends SchemaOf<S> = AnySchema> {
  /** The state of the connection. */
  readonly status: Status;
  /** Calls `changed` after each change of the status, until the returned function is called. */
  onStatus(changed: (status: Status, error?: Error) => void): () => void;
  /**
   * A list that follows the server while somebody is subscribed to it, and for `linger` longer.
   *
   * @param options `initial` is a document that was loaded elsewhere, on the server for example.
   * The list begins with it and asks only for what changed since.
   */
  live<N extends keyof S & string>(
    resource: N,
    options?: ListOptions<S[N]> & { initial?: ListDocument<S[N]> | undefined },
  ): LiveList<S[N]>;
  /**
   * Makes a record. The lists that are in use show it when the promise is fulfilled.
   *
   * @throws {@link TidingsError} when the server refuses it.
   */
  create<N extends keyof S & string>(
    resource: N,
    attributes: Partial<S[N]['attributes']>,
    options?: WriteOptions,
  ): Promise<S[N]>;
  /** Changes the attributes that are given; otherwise like `create`. */
  update<N extends keyof S & string>(
    resource: N,
    id: string,
    attributes: Partial<S[N]['attributes']>,
    options?: Omit<WriteOptions, 'id'>,
  ): Promise<S[N]>;
  /** Deletes a record; otherwise like `create`. */
  remove(resource: keyof S & string, id: string): Promise<void>;
  /**
   * Calls `changed` with the ids that changed, at most once in `batch` milliseconds. `null` stands
   * for all of them: at the beginning, and where the server cannot tell what was missed.
   *
   * @returns a function that ends it.
   */
  onChange(
    resource: keyof S & string,
    filters: Filters | undefined,
    changed: (ids: string[] | null) => void,
    failed?: (error: Error) => void,
  ): () => void;
  /**
   * Sends a request with the client's token; `path` begins after the prefix.
   *
   * @throws {@link TidingsError} for every answer but 2xx, with the status 0 where there was none.
   */
  request<D = any>(method: string, path: string, body?: unknown): Promise<D>;
  /** Disconnects for good. */
  close(): void;
}
