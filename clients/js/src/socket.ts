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
  /** Whether changes are being told from now on; if not, `refusal` may say why. */
  follows(active: boolean, refusal?: Error): void;
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
  const closing = new AbortController();
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

  const each = (watch: Subscription, act: (member: Member) => void) => [...watch.members].forEach(act);

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
        if (/RATE|INTERNAL/.test(error.code!)) {
          setTimeout(() => {
            if (watch.socketId === asked) watch.socketId = undefined;
            activate(watch);
          }, 1000);
        }
        const refusal = new TidingsError(0, [error]);
        each(watch, (member) => member.follows(false, refusal));
      } else if (!watch.members.size) unsubscribe(data.subscriptionId);
      else {
        watch.id = data.subscriptionId;
        watch.cursor = data.cursor;
        each(watch, (member) => {
          if (!cursor) member.resync();
          member.follows(true);
        });
      }
    });
  };

  const unsubscribe = (subscriptionId: string | undefined) => {
    // Offline nothing is emitted: it would be sent later, to a connection that knows nothing of it.
    if (subscriptionId && socket?.connected) socket.emit('unsubscribe', { subscriptionId });
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
        if (!watch.members.delete(member) || watch.members.size) return;
        watches.delete(key);
        unsubscribe(watch.id);
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
    if (socket || closing.signal.aborted) return;
    socket = io(new URL(url || location.href, globalThis.location?.href).origin, {
      path: socketPath ?? '/socket.io',
      forceNew: true,
      // A WebSocket at once: one round trip less, and an upgrade that breaks off half way leaves
      // socket.io-client silent until the next ping is missed.
      transports: ['websocket', 'polling'],
      tryAllTransports: true,
      reconnectionDelay: 500,
      ...more,
      auth: (give: (auth: object) => void) => {
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
      watches.forEach(activate);
    });
    socket.on('disconnect', () => {
      watches.forEach((watch) => {
        watch.id = watch.socketId = undefined;
        each(watch, (member) => member.follows(false));
      });
      become('offline');
      if (!socket || socket.active) return;
      // The server has ended it, since the token has expired or was revoked.
      renew = true;
      retry();
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
    const told = (event: string, act: (watch: Subscription, data: any) => void) =>
      socket!.on(`subscription.${event}`, (data) => {
        const id = data.subscriptionId ?? data.details?.subscriptionId;
        for (const watch of watches.values()) if (id && watch.id === id) act(watch, data);
      });
    // The second one, when what was missed has been told.
    told('created', (watch, { cursor }) => (watch.cursor = cursor));
    told('update', (watch, { id, meta }) => {
      watch.cursor = meta.cursor;
      each(watch, (member) => member.changed(id, meta.change, meta.cursor));
    });
    told('resync', (watch, { cursor }) => {
      watch.cursor = cursor;
      each(watch, (member) => member.resync());
    });
    // One that was active has been ended: what it may see has changed.
    told('error', (watch, error) => {
      watch.id = undefined;
      each(watch, (member) => {
        member.follows(false, new TidingsError(0, [error]));
        member.resync();
      });
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
  };
  const { signal } = closing;
  globalThis.addEventListener?.('online', wake, { signal });
  globalThis.document?.addEventListener('visibilitychange', wake, { signal });

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
      activate(watch);
      return watch;
    },
    close() {
      closing.abort();
      clearTimeout(timer);
      const open = socket;
      socket = undefined;
      open?.disconnect();
    },
  };
}
