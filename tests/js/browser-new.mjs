// Drives the page of a new application in a real browser: node browser-new.mjs <url> [image]
// Two people write notes, and each sees the other's at once. CHROMIUM names the browser.

import assert from 'node:assert/strict';

import { chromium } from 'playwright-core';

const [url, image] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run'],
});
const complaints = [];

async function open(options = {}) {
  const context = await browser.newContext({ viewport: { width: 900, height: 600 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(15000);
  page.on('pageerror', (error) => complaints.push(String(error)));
  await page.goto(url);
  await page.getByText('live', { exact: true }).waitFor();
  return page;
}

try {
  const [ann, ben] = [await open(), await open({ colorScheme: 'dark' })];
  for (const text of ['Buy milk', '<b>Feed the cat</b>']) {
    await ann.getByPlaceholder('What is to be done?').fill(text);
    await ann.getByRole('button', { name: 'Add' }).click();
    await ben.getByText(text, { exact: true }).waitFor();
  }
  await ben.getByRole('checkbox').last().check();
  await ann.locator('li.done').getByText('Buy milk').waitFor();
  if (image) await ann.screenshot({ path: image });
  await ann.getByRole('button', { name: 'Delete' }).first().click();
  await ben.getByText('<b>Feed the cat</b>').waitFor({ state: 'detached' });
  assert.equal(await ben.locator('li').count(), 1);
  assert.deepEqual(complaints, []);
} finally {
  await browser.close();
}
