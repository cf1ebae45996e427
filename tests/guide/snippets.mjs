// The guide's client snippets, word for word, run against a server.
//
//   node snippets.mjs <url> batch   <token>     the batch example of "Client-Side Optimization"
//   node snippets.mjs <url> helper  <token>     the helper of "Testing WebSocket Functionality"
//   node snippets.mjs <url> include <token>     the example of "Include and Fields Storage"
//   node snippets.mjs <url> limit   <token>     the example of "Subscription Limits"
//
// What a page would have around them (a token, a fetch with the page's address, a UI) comes first
// in each function. One line of JSON on standard output says what happened.

import { createRequire } from 'node:module';
import { EventEmitter, once } from 'node:events';

const { io: socketIo } = createRequire(new URL('../js/package.json', import.meta.url))(
  'socket.io-client',
);
console.log = console.error;

const [url, name, token] = process.argv.slice(2);
const io = () => socketIo(url, { auth: { token } });
const MEDIA_TYPE = 'application/vnd.api+json';
const headers = { Authorization: `Bearer ${token}`, 'Content-Type': MEDIA_TYPE };
const fetch = (path, options) => globalThis.fetch(url + path, options);

async function send(method, path, type, id, attributes) {
  const response = await globalThis.fetch(`${url}/api/${path}`, {
    method,
    headers,
    body: JSON.stringify({ data: { type, ...(id ? { id } : {}), attributes } }),
  });
  if (!response.ok) throw new Error(`${method} ${path}: ${await response.text()}`);
  return (await response.json()).data;
}

const createPost = (attributes) =>
  send('POST', 'posts', 'posts', null, { title: 'x', author_id: 1, ...attributes });

async function batch() {
  const socket = io();
  await once(socket, 'connect');
  const fetchResource = async (resource, id) =>
    (await fetch(`/api/${resource}/${id}`, { headers })).json();
  const batches = [];
  const complete = new EventEmitter();
  const updateBatchUI = (results) => {
    batches.push(results.map(({ data }) => [data.id, data.attributes.title]));
    const fresh = batches.flat().filter(([id, title]) => title === `title ${id}`);
    if (new Set(fresh.map(([id]) => id)).size === 3) complete.emit('complete');
  };

  // Batch fetch requests
  const pendingFetches = new Set();

  socket.on('subscription.update', (notification) => {
    pendingFetches.add(`${notification.resource}:${notification.id}`);
  });

  // Fetch in batches every 100ms
  const interval = setInterval(async () => {
    if (pendingFetches.size === 0) return;

    const toFetch = Array.from(pendingFetches);
    pendingFetches.clear();

    // Batch fetch multiple resources
    const results = await Promise.all(
      toFetch.map(key => {
        const [resource, id] = key.split(':');
        return fetchResource(resource, id);
      })
    );

    // Update UI with all results
    updateBatchUI(results);
  }, 100);

  await socket.emitWithAck('subscribe', { resource: 'posts', filters: { status: 'batch' } });
  const completed = once(complete, 'complete');
  const posts = await Promise.all([1, 2, 3].map(() => createPost({ status: 'batch' })));
  for (const { id } of posts) {
    await send('PATCH', `posts/${id}`, 'posts', id, { title: `title ${id}` });
  }
  await completed;
  clearInterval(interval);
  socket.close();
  return { posts: posts.map(({ id }) => id), batches };
}

async function helper() {
  const testToken = token;
  const createTestPost = () => createPost({ status: 'published' });

  // Test helper for WebSocket subscriptions
  async function testWebSocketSubscription() {
    const socket = socketIo(url, {
      auth: { token: testToken }
    });

    return new Promise((resolve, reject) => {
      socket.on('connect', async () => {
        console.log('✓ Connected to WebSocket');

        // Test subscription
        socket.emit('subscribe', {
          resource: 'posts',
          filters: { status: 'published' }
        }, (response) => {
          if (response.error) {
            console.error('✗ Subscription failed:', response.error);
            reject(response.error);
          } else {
            console.log('✓ Subscription successful:', response.data);

            // Wait for an update
            socket.once('subscription.update', (notification) => {
              console.log('✓ Received update:', notification);
              socket.close();
              resolve(notification);
            });

            // Trigger an update
            createTestPost();
          }
        });
      });

      socket.on('connect_error', (error) => {
        console.error('✗ Connection failed:', error.message);
        reject(error);
      });
    });
  }

  return testWebSocketSubscription();
}

async function include() {
  const socket = io();
  await once(socket, 'connect');
  let done;
  const document = new Promise((resolve) => { done = resolve; });

  // Subscribe with preferred includes and fields
  socket.emit('subscribe', {
    resource: 'posts',
    filters: { status: 'published' },
    include: ['author', 'comments.user'],
    fields: {
      posts: ['title', 'summary', 'published_at'],
      users: ['name', 'avatar'],
      comments: ['body', 'created_at']
    }
  });

  // Client can use these when fetching
  socket.on('subscription.update', async (notification) => {
    // Use the stored preferences for fetching
    const url = `/api/posts/${notification.id}?` +
      'include=author,comments.user&' +
      'fields[posts]=title,summary,published_at&' +
      'fields[users]=name,avatar';

    const response = await fetch(url);
    done(await response.json());
  });

  await once(socket, 'subscription.created');
  for (const [id, name] of [['ada', 'Ada'], ['bob', 'Bob']]) {
    await send('PUT', `users/${id}`, 'users', id, { name, email: `${id}@example.com` });
  }
  const post = await createPost({ author_id: 'ada', summary: 'short', content: 'long' });
  await send('POST', 'comments', 'comments', null, { body: 'hi', post_id: post.id, user_id: 'bob' });
  await send('PATCH', `posts/${post.id}`, 'posts', post.id, { status: 'published' });
  const found = await document;
  socket.close();
  return found;
}

async function limit() {
  const socket = io();
  await once(socket, 'connect');
  const answers = [];
  const answered = Array.from({ length: 101 }, () => new Promise((resolve) => {
    // After 100 subscriptions, new ones are rejected
    socket.emit('subscribe', { resource: 'posts' }, (response) => {
      if (response.error?.code === 'SUBSCRIPTION_LIMIT_EXCEEDED') {
        console.error('Too many active subscriptions');
      }
      resolve(answers.push(response.error?.code ?? 'ok'));
    });
  }));
  await Promise.all(answered);
  socket.close();
  return answers;
}

const result = await { batch, helper, include, limit }[name]();
process.stdout.write(JSON.stringify(result));
