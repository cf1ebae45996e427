// A client written from the guide's "Client Usage" chapter, on an unmodified socket.io-client,
// and a small driver that lets a test in another language steer it with JSON lines.
//
//   node guide-client.mjs <url> [--transports websocket|polling|polling,websocket] [--from address]
//
//   in   {"id": 1, "command": "subscribe", "socket": "main", "options": {"resource": "posts"}}
//   out  {"id": 1, "ok": true, "result": {...}}   or   {"id": 1, "ok": false, "error": {...}}
//
// Every time is in milliseconds. Standard output carries replies only; the rest goes to stderr.

import { EventEmitter } from 'node:events';
import { Agent } from 'node:http';
import { createInterface } from 'node:readline';
import { io as socketIo } from 'socket.io-client';

console.log = console.error;

const DEFAULT_TIMEOUT = 5000;
const { url, transports, agent } = parseArguments(process.argv.slice(2));

// A test must not wait a second for each reconnection; everything else is the library's default.
const io = (address, options = {}) =>
  socketIo(address, {
    forceNew: true,
    reconnectionDelay: 50,
    reconnectionDelayMax: 250,
    ...(transports ? { transports } : {}),
    ...(agent ? { agent } : {}),
    ...options,
  });

function parseArguments(given) {
  const option = (name) => {
    const at = given.indexOf(name);
    return at === -1 ? undefined : given.splice(at, 2)[1];
  };
  const names = option('--transports')?.split(',') ?? [];
  const localAddress = option('--from');
  if (given.length !== 1) {
    console.error('usage: guide-client.mjs <url> [--transports websocket|polling|polling,websocket] [--from address]');
    process.exit(2);
  }
  return {
    url: given[0],
    transports: names.length > 0 ? names : undefined,
    agent: localAddress ? new Agent({ keepAlive: true, localAddress }) : undefined,
  };
}

// ---------------------------------------------------------------------------------------------
// From the guide, word for word. The one difference: the guide's class calls this.emit() and is
// used with realtime.on() but extends nothing, so here it extends Node's EventEmitter.

// Helper function for subscribing
async function subscribeToResource(socket, options) {
  return new Promise((resolve, reject) => {
    socket.emit('subscribe', options, (response) => {
      if (response.error) {
        reject(response.error);
      } else {
        resolve(response.data);
      }
    });
  });
}

async function restoreSubscriptions(socket, subscriptions) {
  return new Promise((resolve) => {
    socket.emit('restore-subscriptions',
      { subscriptions },
      resolve
    );
  });
}

class RealtimeResourceManager extends EventEmitter {
  constructor(apiUrl, token) {
    super();
    this.apiUrl = apiUrl;
    this.token = token;
    this.subscriptions = new Map();
    this.cache = new Map();

    this.socket = io(apiUrl, {
      auth: { token }
    });

    this.setupEventHandlers();
  }

  setupEventHandlers() {
    this.socket.on('connect', () => {
      console.log('WebSocket connected');
      this.restoreSubscriptions();
    });

    this.socket.on('subscription.update', (notification) => {
      this.handleUpdate(notification);
    });

    this.socket.on('subscription.created', (response) => {
      this.subscriptions.set(response.subscriptionId, response);
    });
  }

  async subscribe(resource, filters = {}, options = {}) {
    return new Promise((resolve, reject) => {
      this.socket.emit('subscribe', {
        resource,
        filters,
        ...options
      }, (response) => {
        if (response.error) {
          reject(response.error);
        } else {
          resolve(response.data);
        }
      });
    });
  }

  async handleUpdate(notification) {
    const { resource, id, action } = notification;

    // Invalidate cache
    const cacheKey = `${resource}:${id}`;
    this.cache.delete(cacheKey);

    // Emit custom event for UI updates
    this.emit('resource:updated', {
      resource,
      id,
      action,
      notification
    });
  }

  async fetchResource(resource, id, options = {}) {
    const cacheKey = `${resource}:${id}`;

    // Check cache first
    if (this.cache.has(cacheKey)) {
      return this.cache.get(cacheKey);
    }

    // Fetch from API
    const queryString = new URLSearchParams(options).toString();
    const url = `${this.apiUrl}/${resource}/${id}${queryString ? '?' + queryString : ''}`;

    const response = await fetch(url, {
      headers: {
        Authorization: `Bearer ${this.token}`
      }
    });

    if (!response.ok) {
      throw new Error(`Failed to fetch ${resource}/${id}`);
    }

    const data = await response.json();

    // Cache the result
    this.cache.set(cacheKey, data);

    return data;
  }

  async restoreSubscriptions() {
    if (this.subscriptions.size === 0) return;

    const subscriptions = Array.from(this.subscriptions.values());

    return new Promise((resolve) => {
      this.socket.emit('restore-subscriptions',
        { subscriptions },
        (response) => {
          if (response.error) {
            console.error('Failed to restore subscriptions:', response.error);
          } else {
            console.log(`Restored ${response.restored.length} subscriptions`);
          }
          resolve(response);
        }
      );
    });
  }
}

// The guide's handlers for a socket of one's own: they fill the map and restore from it.
function setUpHandlers(socket, activeSubscriptions, { autoRestore, handled }) {
  socket.on('connect', async () => {
    if (autoRestore && activeSubscriptions.size > 0) {
      const { restored, failed } = await restoreSubscriptions(
        socket,
        Array.from(activeSubscriptions.values())
      );
      console.log(`Restored ${restored.length} subscriptions`);
      if (failed.length > 0) {
        console.error(`Failed to restore ${failed.length} subscriptions`);
      }
    }
  });

  socket.on('subscription.created', (response) => {
    activeSubscriptions.set(response.subscriptionId, response);
  });

  socket.on('subscription.update', async (notification) => {
    // Handle different actions
    switch (notification.action) {
      case 'post':
        handled('new', notification);
        break;
      case 'update':
      case 'patch':
        handled('updated', notification);
        break;
      case 'delete':
        handled('deleted', notification);
        break;
    }
  });
}

// ---------------------------------------------------------------------------------------------
// The driver.

// What one socket saw, in order: the server's events, `connect`, `disconnect`, `connect_error`,
// `ack` (of which event, then what came) and the guide's own `handled` and `resource:updated`.
class Log {
  constructor() {
    this.entries = [];
    this.waiters = new Set();
    this.next = 0;
  }

  add(event, ...args) {
    const at = performance.timeOrigin + performance.now();
    this.entries.push({ seq: this.next++, at, event, args });
    for (const check of this.waiters) check();
  }

  select({ event, match }) {
    return this.entries.filter(
      (entry) => (event === undefined || entry.event === event) && contains(entry.args[0], match),
    );
  }

  async wait({ event, match, count = 1, timeout = DEFAULT_TIMEOUT }) {
    let check;
    const enough = new Promise((resolve) => {
      check = () => {
        const found = this.select({ event, match });
        if (found.length >= count) resolve(found);
      };
    });
    this.waiters.add(check);
    check();
    try {
      return await within(timeout, enough, `${count} of ${event ?? 'any event'}`);
    } catch (error) {
      error.received = this.select({ event, match });
      const log = this.entries.map((entry) => entry.event).join(', ');
      error.message += ` (${error.received.length} came; the log holds: ${log || 'nothing'})`;
      throw error;
    } finally {
      this.waiters.delete(check);
    }
  }
}

// Whether `value` holds everything that `wanted` names.
function contains(value, wanted) {
  if (wanted === undefined) return true;
  if (wanted === null || typeof wanted !== 'object') return value === wanted;
  return (
    value !== null &&
    typeof value === 'object' &&
    Object.entries(wanted).every(([key, inner]) => contains(value[key], inner))
  );
}

async function within(timeout, promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no ${what} within ${timeout} ms`)), timeout);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

const clients = new Map();

function find(name) {
  const client = clients.get(name);
  if (!client) throw new Error(`there is no socket named '${name}': connect it first`);
  return client;
}

// Puts a socket under a name and writes down all that happens on it.
function watch(name, socket, more) {
  clients.get(name)?.socket.disconnect();
  const log = new Log();
  const emit = socket.emit;
  socket.emit = function (event, ...args) {
    const ack = args.at(-1);
    if (typeof ack === 'function') {
      args[args.length - 1] = (...answer) => {
        log.add('ack', event, ...answer);
        ack(...answer);
      };
    }
    return emit.call(this, event, ...args);
  };
  socket.onAny((event, ...args) => log.add(event, ...args));
  socket.on('connect', () => log.add('connect'));
  socket.on('disconnect', (reason) => log.add('disconnect', reason));
  socket.on('connect_error', (error) => log.add('connect_error', error.message, error.data));
  const client = { name, socket, log, ...more };
  clients.set(name, client);
  return client;
}

async function opened({ socket }, { timeout = DEFAULT_TIMEOUT, wait = true }) {
  if (!wait) return null;
  const answer = new Promise((resolve, reject) => {
    socket.once('connect', resolve);
    socket.once('connect_error', reject);
  });
  if (!socket.connected) await within(timeout, answer, 'connection');
  return { id: socket.id, transport: socket.io.engine.transport.name };
}

function emitWithAck(socket, event, args) {
  return new Promise((resolve) => socket.emit(event, ...args, (...answer) => resolve(answer)));
}

// Breaks the line without a word to the server: it finds out as it would if a network failed.
function breakTransport(engine) {
  const { transport } = engine;
  if (transport.name === 'websocket' && transport.ws?.terminate) {
    transport.ws.terminate();
    return;
  }
  transport.doClose = () => {};
  transport.pollXhr?._cleanup(true);
  engine._onClose('transport error');
}

// A new cursor for what the map would restore: an extension that the guide's clients lack.
function trackCursors(socket, activeSubscriptions) {
  const seen = (subscriptionId, cursor) => {
    const known = activeSubscriptions.get(subscriptionId);
    if (known && cursor) activeSubscriptions.set(subscriptionId, { ...known, cursor });
  };
  socket.on('subscription.update', (told) => seen(told.subscriptionId, told.meta?.cursor));
  socket.on('subscription.resync', (told) => seen(told.subscriptionId, told.cursor));
}

const refusal = (error) => ({ error });

const commands = {
  connect({ socket: name, auth, options, autoRestore = true, cursors = false, ...rest }) {
    const activeSubscriptions = new Map();
    const socket = io(url, { ...(auth === undefined ? {} : { auth }), ...options });
    const client = watch(name, socket, { activeSubscriptions });
    const handled = (how, notification) => client.log.add('handled', how, notification);
    setUpHandlers(socket, activeSubscriptions, { autoRestore, handled });
    if (cursors) trackCursors(socket, activeSubscriptions);
    return opened(client, rest);
  },

  async emit({ socket: name, event, args = [], ack = true, timeout = DEFAULT_TIMEOUT }) {
    const { socket } = find(name);
    if (ack) return within(timeout, emitWithAck(socket, event, args), `ack of ${event}`);
    socket.emit(event, ...args);
    return null;
  },

  subscribe({ socket: name, options, timeout = DEFAULT_TIMEOUT }) {
    const { socket } = find(name);
    const answer = subscribeToResource(socket, options).catch(refusal);
    return within(timeout, answer, 'ack of subscribe');
  },

  // The guide's clients do not take an unsubscribed entry out of their map; a sensible one does.
  async unsubscribe({ socket: name, subscriptionId, timeout = DEFAULT_TIMEOUT }) {
    const { socket, activeSubscriptions } = find(name);
    const answer = emitWithAck(socket, 'unsubscribe', [{ subscriptionId }]);
    const [response] = await within(timeout, answer, 'ack of unsubscribe');
    if (!response.error) activeSubscriptions.delete(subscriptionId);
    return response;
  },

  restore({ socket: name, subscriptions, timeout = DEFAULT_TIMEOUT }) {
    const { socket, activeSubscriptions } = find(name);
    const wanted = subscriptions ?? Array.from(activeSubscriptions.values());
    return within(timeout, restoreSubscriptions(socket, wanted), 'ack of restore-subscriptions');
  },

  subscriptions: ({ socket: name }) => Array.from(find(name).activeSubscriptions.values()),
  wait: ({ socket: name, ...rest }) => find(name).log.wait(rest),
  events: ({ socket: name, ...rest }) => find(name).log.select(rest),

  clear({ socket: name }) {
    find(name).log.entries = [];
    return null;
  },

  disconnect({ socket: name }) {
    find(name).socket.disconnect();
    return null;
  },

  reconnect({ socket: name, auth, ...rest }) {
    const client = find(name);
    const { socket } = client;
    if (auth !== undefined) socket.auth = auth;
    socket.io.reconnection(true);
    const answer = opened(client, rest);
    socket.connect();
    return answer;
  },

  // `hold` keeps the client away until `reconnect`; without it socket.io-client comes back itself.
  async drop({ socket: name, hold = false, polite = false, timeout = DEFAULT_TIMEOUT }) {
    const { socket } = find(name);
    if (!socket.connected) throw new Error(`socket '${name}' is not connected`);
    const gone = new Promise((resolve) => socket.once('disconnect', resolve));
    if (hold) socket.io.reconnection(false);
    if (polite) socket.io.engine.close();
    else breakTransport(socket.io.engine);
    return { reason: await within(timeout, gone, 'disconnect') };
  },

  async transport({ socket: name, until, timeout = DEFAULT_TIMEOUT }) {
    const { engine } = find(name).socket.io;
    if (until !== undefined && engine.transport.name !== until) {
      const upgraded = new Promise((resolve) => engine.once('upgrade', resolve));
      await within(timeout, upgraded, `upgrade to ${until}`);
    }
    return engine.transport.name;
  },

  status: ({ socket: name }) => {
    const { socket } = find(name);
    return { id: socket.id ?? null, connected: socket.connected, active: socket.active };
  },

  'manager.new'({ socket: name, token, apiUrl = url, ...rest }) {
    const manager = new RealtimeResourceManager(apiUrl, token);
    const { socket, subscriptions: activeSubscriptions } = manager;
    const client = watch(name, socket, { manager, activeSubscriptions });
    manager.on('resource:updated', (told) => client.log.add('resource:updated', told));
    return opened(client, rest);
  },

  'manager.subscribe'({ socket: name, resource, filters, options, timeout = DEFAULT_TIMEOUT }) {
    const answer = find(name).manager.subscribe(resource, filters, options).catch(refusal);
    return within(timeout, answer, 'ack of subscribe');
  },

  'manager.subscriptions': ({ socket: name }) =>
    Array.from(find(name).manager.subscriptions.values()),

  'manager.events': ({ socket: name }) =>
    find(name).log.select({ event: 'resource:updated' }).map((entry) => entry.args[0]),

  'manager.fetch': ({ socket: name, resource, recordId, options, timeout = DEFAULT_TIMEOUT }) =>
    within(
      timeout,
      find(name).manager.fetchResource(resource, recordId, options),
      `answer for ${resource}/${recordId}`,
    ),

  exit: () => null,
};

function reply(message) {
  return new Promise((resolve) => process.stdout.write(`${JSON.stringify(message)}\n`, resolve));
}

async function obey(line) {
  const { id, command, ...rest } = JSON.parse(line);
  const name = rest.socket ?? (command.startsWith('manager.') ? 'manager' : 'main');
  try {
    if (!Object.hasOwn(commands, command)) throw new Error(`no such command: ${command}`);
    const result = await commands[command]({ ...rest, socket: name });
    await reply({ id, ok: true, result: result ?? null });
  } catch (error) {
    const { message, data, received } = error;
    await reply({ id, ok: false, error: { message, data, received } });
  }
  if (command === 'exit') stop();
}

function stop() {
  for (const { socket } of clients.values()) socket.disconnect();
  process.exit(0);
}

// A page would log these and live on; a test reads them in the driver's error output.
process.on('uncaughtException', (error) => console.error('uncaught:', error));
process.on('unhandledRejection', (error) => console.error('unhandled:', error));

createInterface({ input: process.stdin, crlfDelay: Infinity }).on('line', obey).on('close', stop);
