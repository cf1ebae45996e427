import { io, type Socket } from 'socket.io-client';

import { canonical, TidingsError, type ErrorObject, type Http } from './http.js';
import type { ClientOptions, Filters, Status } from './types.js';

/** One that wants to know what changes. */
export interface Member {
  /** Whether it is about to load, and then will name the cursor to begin at. */
  readonly needsAnchor: boolean;
  /** A record has changed; `change` is its way through the filter. */
  changed(id: string, change: string, cursor: string): void;
  /** This client has written a record. Fulfilled when it has been looked at. */
  touch(id: string): Promise<void>;
  /** Anything may have changed. */
  resync(): void;
  /** Whether changes are being told from now on. */
  follows(active: boolean): void;
  /** The subscription has been refused. */
  fail(error: Error): void;
  /** Whatever waits to try again may try now. */
  wake(): void;
}

/** A subscription, shared by all that want the same one. */
export interface Watch {
  readonly resource: string;
  /** The last one told, from which to go on after a reconnection. */
  readonly cursor: string | undefined;
  /** Begin there, unless it has begun. */
  anchor(cursor: string | undefined): void;
  leave(member: Member): void;
}

type Ack = { data?: any; error?: ErrorObject };
type Subscription = Watch & {
  members: Set<Member>;
  filters: Filters;
  cursor: string | undefined;
  id: string | undefined;
  socketId: string | undefined; // The connection on which it was asked for.
};

const MOST = 30_000;

/** The Socket.IO side of a client: the connection, and which subscriptions it has. */
export function createConnection(
  http: Http,
  { url, socketPath, socket: more }: ClientOptions,
  changed: (status: Status, error?: Error) => void,
) {
  const watches = new Map<string, Subscription>();
  let socket: Socket | undefined;
  let status: Status = 'connecting';
  let renew = false;
  let refusals = 0;
  let attempts = 0;
  let timer: ReturnType<typeof setTimeout> | undefined;

  const become = (next: Status, error?: Error) => {
    if (next === status) return;
    status = next;
    changed(next, error);
  };

  const byId = (id: string | undefined) => [...watches.values()].find((watch) => id && watch.id === id);

  /** Asks for a subscription; everything that may be asked only once per connection is here. */
  const activate = (watch: Subscription) => {
    if (!socket?.connected || watch.socketId === socket.id) return;
    // A list that loads names the cursor that its load began at, so that nothing falls between.
    if (!watch.cursor && [...watch.members].some((member) => member.needsAnchor)) return;
    const { resource, filters, cursor } = watch;
    const asked = (watch.socketId = socket.id);
    const request = { resource, filters, ...(cursor ? { cursor } : {}) };
    socket.emit('subscribe', request, ({ data, error }: Ack) => {
      if (asked !== socket?.id) return;
      if (error) {
        if (error.code === 'RATE_LIMITED' || error.code === 'INTERNAL_ERROR') {
          setTimeout(() => {
            if (watch.socketId === asked) watch.socketId = undefined;
            activate(watch);
          }, 1000);
        }
        const failure = new TidingsError(0, [error]);
        for (const member of watch.members) member.fail(failure);
      } else if (!watch.members.size) {
        socket?.emit('unsubscribe', { subscriptionId: data.subscriptionId });
      } else {
        watch.id = data.subscriptionId;
        watch.cursor = data.cursor;
        for (const member of [...watch.members]) {
          if (!cursor) member.resync();
          member.follows(true);
        }
      }
    });
  };

  const subscribed = (key: string, resource: string, filters: Filters): Subscription => {
    const watch: Subscription = {
      resource,
      filters,
      cursor: undefined,
      id: undefined,
      socketId: undefined,
      members: new Set(),
      anchor(cursor) {
        watch.cursor ??= cursor;
        activate(watch);
      },
      leave(member) {
        watch.members.delete(member);
        if (watch.members.size || watches.get(key) !== watch) return;
        watches.delete(key);
        if (watch.id && socket?.connected) socket.emit('unsubscribe', { subscriptionId: watch.id });
      },
    };
    watches.set(key, watch);
    return watch;
  };

  /** Connects again after a pause: Socket.IO itself has given up. */
  const retry = () => {
    clearTimeout(timer);
    const pause = refusals ? Math.min(MOST, 500 * 2 ** refusals) * (0.5 + Math.random()) : 0;
    timer = setTimeout(() => socket?.connect(), pause);
    refusals++;
  };

  const open = () => {
    if (socket) return;
    socket = io(new URL(url || location.href, globalThis.location?.href).origin, {
      path: socketPath ?? '/socket.io',
      forceNew: true,
      // A WebSocket at once: one round trip less, and an upgrade that breaks off half way leaves
      // socket.io-client silent until the next ping is missed.
      transports: ['websocket', 'polling'],
      tryAllTransports: true,
      reconnectionDelay: 500,
      ...more,
      auth: (give) => {
        const attempt = ++attempts;
        http.tokenFor(renew).then(
          (token) => attempt === attempts && give(token ? { token } : {}),
          (error: Error) => {
            socket?.disconnect();
            become('offline', error);
            retry();
          },
        );
      },
    });
    socket.on('connect', () => {
      renew = false;
      refusals = 0;
      become('live');
      for (const watch of watches.values()) {
        activate(watch);
        for (const member of watch.members) member.wake();
      }
    });
    socket.on('disconnect', () => {
      for (const watch of watches.values()) {
        watch.id = watch.socketId = undefined;
        for (const member of watch.members) member.follows(false);
      }
      become('offline');
      if (socket && !socket.active) retry();
    });
    socket.on('connect_error', (error: Error & { data?: ErrorObject }) => {
      if (!socket || socket.active) return become('offline', error);
      // A server that was restarted, or a token that expired while the device slept: the first
      // refusal is answered with a new token.
      if (renew || !error.data) {
        become('refused', new TidingsError(0, [{ ...error.data, message: error.message }]));
      }
      renew = true;
      retry();
    });
    socket.on('auth.expiring', async () => {
      const token = await http.tokenFor(true).catch(() => null);
      if (token && socket?.connected) socket.emit('authenticate', { token }, () => {});
    });
    for (const event of ['auth.expired', 'auth.revoked']) socket.on(event, () => (renew = true));
    socket.on('subscription.created', ({ subscriptionId, cursor }) => {
      // The second one, after what was missed has been told.
      const watch = byId(subscriptionId);
      if (watch) watch.cursor = cursor;
    });
    socket.on('subscription.update', ({ subscriptionId, id, meta }) => {
      const watch = byId(subscriptionId);
      if (!watch) return;
      watch.cursor = meta.cursor;
      for (const member of [...watch.members]) member.changed(id, meta.change, meta.cursor);
    });
    socket.on('subscription.resync', ({ subscriptionId, cursor }) => {
      const watch = byId(subscriptionId);
      if (!watch) return;
      watch.cursor = cursor;
      for (const member of [...watch.members]) member.resync();
    });
    socket.on('subscription.error', (error: ErrorObject) => {
      // One that was active has been ended: what it may see has changed.
      const watch = byId(error.details?.subscriptionId);
      if (!watch) return;
      watch.id = undefined;
      for (const member of [...watch.members]) {
        member.follows(false);
        member.resync();
        member.fail(new TidingsError(0, [error]));
      }
    });
  };

  /** The page is seen again, or the network is back: no more waiting. */
  const wake = () => {
    if (globalThis.document?.visibilityState === 'hidden') return;
    if (socket && !socket.connected) {
      clearTimeout(timer);
      // Without the first call a pause of Socket.IO's own would go on.
      socket.disconnect().connect();
    }
    for (const watch of watches.values()) for (const member of watch.members) member.wake();
  };
  globalThis.addEventListener?.('online', wake);
  globalThis.document?.addEventListener('visibilitychange', wake);

  return {
    get status() {
      return status;
    },
    members: (resource: string): Member[] =>
      [...watches.values()].flatMap((watch) => (watch.resource === resource ? [...watch.members] : [])),
    /** Joins the subscription that fits, or makes one. */
    join(member: Member, resource: string, filters: Filters): Watch {
      open();
      const key = canonical([resource, filters]);
      const watch = watches.get(key) ?? subscribed(key, resource, filters);
      watch.members.add(member);
      if (watch.id) member.follows(true);
      return watch;
    },
    activate: (watch: Watch) => activate(watch as Subscription),
    close() {
      globalThis.removeEventListener?.('online', wake);
      globalThis.document?.removeEventListener('visibilitychange', wake);
      clearTimeout(timer);
      const closing = socket;
      socket = undefined;
      closing?.disconnect();
    },
  };
}
