import { io, type Socket } from 'socket.io-client';

import { createHttp, canonical, TidingsError, type ErrorObject } from './http.js';
import type { ClientOptions, Filters, TokenSource } from './types.js';

/** A subscription as the server describes it. */
export interface SubscriptionData {
  subscriptionId: string;
  resource: string;
  filters: Filters;
  include: string[];
  fields: { [resource: string]: string[] };
  status: 'active';
  cursor: string;
}

/** What `subscribe` takes beside the resource. */
export interface SubscribeOptions {
  resource: string;
  filters?: Filters;
  include?: readonly string[];
  fields?: { readonly [resource: string]: readonly string[] };
  subscriptionId?: string;
  cursor?: string;
}

/** That a record has changed. */
export interface Notification {
  type: 'resource.created' | 'resource.updated' | 'resource.deleted';
  resource: string;
  id: string;
  action: 'post' | 'update' | 'patch' | 'delete';
  subscriptionId: string;
  meta: { timestamp: string; cursor: string; change: 'enter' | 'update' | 'leave' };
}

/** That a list has to be fetched again. */
export interface Resync {
  subscriptionId: string;
  resource: string;
  reason: 'window' | 'epoch' | 'overflow' | 'bulk' | 'permission';
  cursor: string;
}

/** What became of the subscriptions after a reconnection. */
export interface Restored {
  restored: string[];
  failed: { subscriptionId: string; error: ErrorObject }[];
}

/** What {@link RealtimeResourceManager} tells, by the names that `on` takes. */
export interface ManagerEvents {
  /** A record has changed: at once, for each notification. */
  'resource:updated': {
    resource: string;
    id: string;
    action: Notification['action'];
    notification: Notification;
  };
  /** The records that changed since the last time, each once with its last notification. */
  'resources:updated': Notification[];
  /** A subscription may be old: fetch everything again. */
  'resource:resync': Resync;
  /** How many subscriptions are active again after a reconnection. */
  restored: Restored;
  /** The token is refused, even a new one; or a subscription has ended. */
  error: Error | ErrorObject;
}

/**
 * Subscribes a socket of one's own, and gives what the server made of it.
 *
 * @throws the server's error object.
 */
export function subscribeToResource(socket: Socket, options: SubscribeOptions): Promise<SubscriptionData> {
  return new Promise((resolve, reject) => {
    socket.emit('subscribe', options, (answer: { data?: SubscriptionData; error?: ErrorObject }) => {
      if (answer.error) reject(answer.error);
      else resolve(answer.data!);
    });
  });
}

type Handler<E> = (event: E) => void;

/**
 * The class of the json-rest-api guide: notifications, and records that are cached until one comes.
 * For a list that is kept up to date use `createClient`.
 *
 * @example
 * const realtime = new RealtimeResourceManager('https://example.org', () => getToken());
 * await realtime.subscribe('posts', { status: 'published' });
 * realtime.on('resource:updated', async ({ resource, id }) => {
 *   show(await realtime.fetchResource(resource, id, { include: 'author' }));
 * });
 */
export class RealtimeResourceManager {
  readonly socket: Socket;
  /** The active subscriptions by their ids. */
  readonly subscriptions = new Map<string, SubscriptionData>();
  /** Answers by resource and id, and in there by what was asked for. */
  readonly cache = new Map<string, Map<string, Promise<any>>>();

  readonly #http: ReturnType<typeof createHttp>;
  readonly #batch: number;
  readonly #handlers = new Map<string, Set<Handler<any>>>();
  #pending = new Map<string, Notification>();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #renew = false;
  #closed = false;

  /**
   * @param apiUrl where the server is; the paths of its resources begin with `options.prefix`.
   * @param token the token, or a function that gets one.
   */
  constructor(apiUrl: string, token?: TokenSource, options: ClientOptions = {}) {
    this.#http = createHttp({ ...options, url: apiUrl, token });
    this.#batch = options.batch ?? 100;
    this.socket = io(apiUrl, {
      path: options.socketPath ?? '/socket.io',
      forceNew: true,
      ...options.socket,
      auth: (give) => {
        this.#http.tokenFor(this.#renew).then(
          (got) => give(got ? { token: got } : {}),
          (error: Error) => this.#retry(error),
        );
      },
    });
    this.#listen();
  }

  /** Calls `handler` for each of these events, until the function that it returns is called. */
  on<E extends keyof ManagerEvents>(event: E, handler: Handler<ManagerEvents[E]>): () => void {
    let handlers = this.#handlers.get(event);
    if (!handlers) this.#handlers.set(event, (handlers = new Set()));
    handlers.add(handler);
    return () => this.off(event, handler);
  }

  /** Takes a handler out. */
  off<E extends keyof ManagerEvents>(event: E, handler: Handler<ManagerEvents[E]>): void {
    this.#handlers.get(event)?.delete(handler);
  }

  /**
   * Subscribes, and gives what the server made of it.
   *
   * @throws the server's error object.
   */
  async subscribe(
    resource: string,
    filters: Filters = {},
    options: Omit<SubscribeOptions, 'resource' | 'filters'> = {},
  ): Promise<SubscriptionData> {
    const data = await subscribeToResource(this.socket, { resource, filters, ...options });
    this.subscriptions.set(data.subscriptionId, data);
    return data;
  }

  /** Ends a subscription, and does not restore it any more. */
  async unsubscribe(subscriptionId: string): Promise<void> {
    this.subscriptions.delete(subscriptionId);
    if (this.socket.connected) await this.socket.emitWithAck('unsubscribe', { subscriptionId });
  }

  /**
   * A record's document, from the cache if nothing was told of it since.
   *
   * @param options query parameters, such as `include`. Each combination is cached by itself.
   * @throws {@link TidingsError}
   */
  fetchResource<D = any>(resource: string, id: string, options: Record<string, string> = {}): Promise<D> {
    const place = `${resource}:${id}`;
    const key = canonical(options);
    let answers = this.cache.get(place);
    if (!answers) this.cache.set(place, (answers = new Map()));
    const found = answers.get(key);
    if (found) return found;
    const query = new URLSearchParams(options).toString();
    const path = `/${resource}/${encodeURIComponent(id)}${query && `?${query}`}`;
    const answer = this.#http.request('GET', path);
    answers.set(key, answer);
    // A failure is not kept. What is told while it is under way empties the cache: it is not used again.
    answer.catch(() => answers.get(key) === answer && answers.delete(key));
    return answer;
  }

  /** Subscribes again after a reconnection, from the last cursors on. It is done by itself. */
  async restoreSubscriptions(): Promise<Restored> {
    if (this.subscriptions.size === 0) return { restored: [], failed: [] };
    const subscriptions = [...this.subscriptions.values()];
    const answer = await this.socket.emitWithAck('restore-subscriptions', { subscriptions });
    if (answer.error) throw new TidingsError(0, [answer.error]);
    for (const { subscriptionId } of answer.failed) this.subscriptions.delete(subscriptionId);
    this.#emit('restored', answer);
    return answer;
  }

  /** Disconnects for good. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.socket.disconnect();
  }

  #emit<E extends keyof ManagerEvents>(event: E, told: ManagerEvents[E]): void {
    for (const handler of [...(this.#handlers.get(event) ?? [])]) handler(told);
  }

  #listen(): void {
    const { socket } = this;
    socket.on('connect', () => {
      this.#renew = false;
      this.restoreSubscriptions().catch((error) => this.#emit('error', error));
    });
    socket.on('connect_error', (error: Error & { data?: ErrorObject }) => {
      if (socket.active) return;
      if (this.#renew) this.#retry(error);
      else {
        this.#renew = true;
        socket.connect();
      }
    });
    socket.on('disconnect', () => {
      if (!socket.active && !this.#closed) socket.connect();
    });
    for (const event of ['auth.expired', 'auth.revoked']) socket.on(event, () => (this.#renew = true));
    socket.on('auth.expiring', async () => {
      const token = await this.#http.tokenFor(true).catch(() => null);
      if (token && socket.connected) socket.emit('authenticate', { token }, () => {});
    });
    socket.on('subscription.created', (data: SubscriptionData) => {
      this.subscriptions.set(data.subscriptionId, data);
    });
    socket.on('subscription.update', (notification: Notification) => {
      this.#move(notification.subscriptionId, notification.meta.cursor);
      this.#update(notification);
    });
    socket.on('subscription.resync', (resync: Resync) => {
      this.#move(resync.subscriptionId, resync.cursor);
      for (const place of this.cache.keys()) {
        if (place.startsWith(`${resync.resource}:`)) this.cache.delete(place);
      }
      this.#emit('resource:resync', resync);
    });
    socket.on('subscription.error', (error: ErrorObject) => {
      if (this.subscriptions.delete(error.details?.subscriptionId)) this.#emit('error', error);
    });
  }

  #retry(error: Error): void {
    this.#emit('error', error);
    this.socket.disconnect();
    setTimeout(() => !this.#closed && this.socket.connect(), 5000);
  }

  #move(subscriptionId: string, cursor: string): void {
    const known = this.subscriptions.get(subscriptionId);
    if (known) this.subscriptions.set(subscriptionId, { ...known, cursor });
  }

  #update(notification: Notification): void {
    const { resource, id, action } = notification;
    this.cache.delete(`${resource}:${id}`);
    this.#emit('resource:updated', { resource, id, action, notification });
    this.#pending.set(`${resource}:${id}`, notification);
    this.#timer ??= setTimeout(() => {
      const told = [...this.#pending.values()];
      this.#pending = new Map();
      this.#timer = undefined;
      this.#emit('resources:updated', told);
    }, this.#batch);
  }
}
