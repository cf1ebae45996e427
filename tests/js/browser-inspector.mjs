// Drives the inspector's page in a real browser: node browser-inspector.mjs <url> <tokens> [images]
// `tokens` is JSON: admin and other. CHROMIUM names the browser; `images` is a path without ending.

import assert from 'node:assert/strict';

import { chromium } from 'playwright-core';

const [url, given, images] = process.argv.slice(2);
const tokens = JSON.parse(given);
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run'],
});
const complaints = [];
const foreign = [];

async function open(options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(15000);
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type()) && !/status of 40[13]/.test(message.text())) {
      complaints.push(message.text());
    }
  });
  page.on('request', (request) => {
    if (!request.url().startsWith(url)) foreign.push(request.url());
  });
  await page.goto(`${url}/inspector`);
  return page;
}

async function signIn(page, token, keep = false) {
  await page.getByLabel('Token').fill(token);
  if (keep) await page.getByLabel('Keep it').check();
  await page.getByRole('button', { name: 'Open' }).click();
}

const why = (page, text) =>
  page.locator('#changes > li').filter({ hasText: text }).getByRole('button').first();

try {
  const page = await open();
  await signIn(page, 'ein Schlüssel');
  await page.getByText('That is no token.').waitFor();
  await signIn(page, 'nonsense');
  await page.getByRole('alert').filter({ hasText: /token/i }).waitFor();
  await signIn(page, tokens.other);
  await page.getByText('You may not use the inspector').waitFor();
  assert.equal(await page.locator('#inside').isHidden(), true);
  if (images) await page.screenshot({ path: `${images}-sign-in.png` });

  await signIn(page, `Bearer ${tokens.admin}`, true);
  await page.getByText('Live', { exact: true }).waitFor();
  const tile = (name) => page.locator('#tiles > div').filter({ hasText: name });
  await tile('Connections').getByText('4', { exact: true }).waitFor();
  await tile('Distinct filters').getByText('5', { exact: true }).waitFor();
  await page.locator('#resyncs').getByText('epoch').waitFor();

  // A subscriber's own markup is text here, in filters, users and ids.
  await page.getByText('<img src=x onerror="window.hacked=1">').first().waitFor();
  await why(page, '<b>7</b>').click();
  const opened = page.locator('.why');
  await opened.getByText('Told: 2 subscriptions').waitFor();
  await opened.getByText("the record fails: status = 'shut'").first().waitFor();
  await opened.getByLabel('User id').fill('nobody');
  await opened.getByRole('button', { name: 'Ask' }).click();
  await opened.getByText('nobody has no connection to this process').waitFor();
  await opened.getByLabel('User id').fill('');
  await opened.getByRole('button', { name: 'Ask' }).click();
  await opened.getByText('Not told, of those who watch now').waitFor();
  assert.equal(await page.evaluate(() => window.hacked), undefined);

  // It is live: what changes now comes by itself, and what is open stays open.
  process.stdout.write('change\n');
  await page.locator('#changes').getByText('posts later').waitFor();
  await opened.getByText('Told: 2 subscriptions').waitFor();
  if (images) await page.screenshot({ path: `${images}-light.png`, clip: { x: 0, y: 0, width: 1280, height: 860 } });

  await page.getByLabel('Show changes of this resource or id').fill('later');
  await page.locator('#changes').getByText('<b>7</b>').waitFor({ state: 'detached' });
  await page.getByLabel('Show the connections of this user').fill('ben');
  await page.locator('#connections').getByText('ann', { exact: true }).waitFor({ state: 'detached' });
  assert.equal(await page.locator('#connections > li').count(), 1);

  // A reload keeps the token that was to be kept; signing out forgets it.
  await page.reload();
  await page.getByText('Live', { exact: true }).waitFor();
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.reload();
  await page.getByLabel('Token').waitFor();

  for (const [name, options] of images ? [
    ['dark', { colorScheme: 'dark' }],
    ['phone', { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true }],
  ] : [['phone', { viewport: { width: 390, height: 844 }, isMobile: true }]]) {
    const other = await open(options);
    await signIn(other, tokens.admin);
    await why(other, '<b>7</b>').click();
    await other.getByText('Told: 2 subscriptions').waitFor();
    if (images) await other.screenshot({ path: `${images}-${name}.png` });
    const [wide, inside] = await other.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    assert.ok(wide <= inside, `${name}: ${wide} wide in ${inside}`);
  }
  assert.deepEqual(complaints, []);
  assert.deepEqual(foreign, []);
} finally {
  await browser.close();
}
