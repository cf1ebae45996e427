// Opens pages in a real browser: node browser.mjs <scenario>. CHROMIUM names the browser.

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';

import { build } from 'esbuild';
import { chromium } from 'playwright-core';

import { clean, folder, write } from './recipes.mjs';
import { command, create, remove, server, sleep, tokenOf, until, update } from './support.mjs';

const PATIENCE = 20_000;
const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking'];
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: FLAGS });
const complaints = [];
const room = `browser${process.pid}`;

async function open(path, options = {}) {
  const context = await browser.newContext();
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  page.on('pageerror', (error) => complaints.push(`${error.stack ?? error}`));
  page.on('console', (message) => {
    const text = `${message.text()} ${message.location().url}`;
    const isExpected = options.expected?.test(text) || text.endsWith('/favicon.ico');
    if (message.type() === 'error' && !isExpected) complaints.push(text);
  });
  const query = new URLSearchParams({ room, token: tokenOf(options.user ?? 'browser', options.seconds) });
  await page.goto(`${server()}/package/${path}?${query}`);
  return page;
}

async function shows(page, wanted) {
  await page.waitForFunction(
    (text) => [...document.querySelectorAll('li')].map((item) => item.textContent).join() === text,
    `${wanted}`,
  );
}

/** A list that somebody else changes. */
async function follows(page) {
  const ids = [await create({ room, title: 'one' }), await create({ room, title: 'two' })];
  await shows(page, ['one', 'two']);
  await update(ids[0], { title: 'uno' });
  await shows(page, ['uno', 'two']);
  await remove(ids[1]);
  await shows(page, ['uno']);
  return ids[0];
}

const CLIENT = `import { createClient } from '@tidings/client';
const parameters = new URLSearchParams(location.search);
export const client = createClient({ token: parameters.get('token') });
window.client = client;
`;

/** Bundles a page, as an application does. */
async function bundle(name, main) {
  write(name, CLIENT);
  writeFileSync(`${folder(name)}main.jsx`, main);
  await build({
    entryPoints: [`${folder(name)}main.jsx`],
    outfile: `${folder(name)}main.js`,
    bundle: true,
    format: 'iife',
    jsx: 'automatic',
    define: { 'process.env.NODE_ENV': '"development"' },
    logLevel: 'error',
  });
  writeFileSync(`${folder(name)}page.html`, '<!doctype html><div id="root"></div><script src="main.js"></script>');
  return `.recipes/${name}/page.html`;
}

const scenarios = {
  async html() {
    write('html', '');
    await follows(await open('.recipes/html/recipe.html'));
  },

  async react() {
    const path = await bundle(
      'react',
      `import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import { App } from './recipe.jsx';
const room = new URLSearchParams(location.search).get('room');
const root = createRoot(document.querySelector('#root'));
root.render(<StrictMode><App room={room} /></StrictMode>);
window.unmount = () => root.unmount();
`,
    );
    const page = await open(path, { user: 'strict' });
    await follows(page);
    await page.getByText('live', { exact: true }).waitFor();
    // Mounted twice by StrictMode, subscribed once; and not at all when nothing is shown.
    assert.equal((await command('subscriptions', { user: 'strict' })).subscriptions, 1);
    await page.evaluate(() => window.unmount());
    await until(async () => (await command('subscriptions', { user: 'strict' })).subscriptions === 0);
  },

  async 'a lost network'() {
    write('html', '');
    const page = await open('.recipes/html/recipe.html', { expected: /ERR_|WebSocket/ });
    const id = await follows(page);
    await page.context().setOffline(true);
    await update(id, { title: 'while away' });
    await page.context().setOffline(false);
    await shows(page, ['while away']);
  },

  async 'a token that ends while the page sleeps'() {
    const path = await bundle(
      'react',
      `import { createClient } from '@tidings/client';
const parameters = new URLSearchParams(location.search);
const tokens = [parameters.get('token'), parameters.get('next')];
const client = createClient({ token: ({ renew }) => { if (renew) tokens.shift(); return tokens[0]; } });
const list = client.live('posts', { filters: { room: parameters.get('room') } });
list.subscribe(() => {
  document.querySelector('#root').innerHTML = list.getSnapshot().data.map((post) => \`<li>\${post.attributes.title}</li>\`).join('');
});
`,
    );
    const context = await browser.newContext();
    const page = await context.newPage();
    page.setDefaultTimeout(PATIENCE);
    const query = new URLSearchParams({ room, token: tokenOf('sleeper', 3), next: tokenOf('sleeper') });
    await page.goto(`${server()}/package/${path}?${query}`);
    const id = await create({ room, title: 'one' });
    await shows(page, ['one']);
    // Frozen as a background tab is, until the token has ended.
    const devtools = await context.newCDPSession(page);
    await devtools.send('Page.setWebLifecycleState', { state: 'frozen' });
    await sleep(3500);
    await update(id, { title: 'two' });
    await devtools.send('Page.setWebLifecycleState', { state: 'active' });
    await shows(page, ['two']);
  },
};

let code = 0;
try {
  await scenarios[process.argv[2]]();
  assert.deepEqual(complaints, [], "the page's console");
} catch (error) {
  console.error(error, complaints);
  code = 1;
} finally {
  await browser.close();
  for (const name of ['html', 'react']) clean(name);
}
process.exit(code);
