// Drives the React page of examples/fastapi in a real browser: node browser-example.mjs <url> [image]
// Two of one team and one of another log in; CHROMIUM names the browser.

import assert from 'node:assert/strict';

import { chromium } from 'playwright-core';

const [url, image] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run'],
});
const complaints = [];

async function logIn(name) {
  const context = await browser.newContext({ viewport: { width: 800, height: 520 } });
  const page = await context.newPage();
  page.setDefaultTimeout(15000);
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('console', (message) => {
    if (message.type() === 'error' && !/status of 401/.test(message.text())) complaints.push(message.text());
  });
  await page.goto(url);
  await page.getByPlaceholder('Name').fill(name);
  await page.getByPlaceholder('Password').fill('wrong');
  await page.getByRole('button', { name: 'Log in' }).click();
  await page.getByText('wrong name or password').waitFor();
  await page.getByPlaceholder('Name').fill(name);
  await page.getByPlaceholder('Password').fill('x');
  await page.getByRole('button', { name: 'Log in' }).click();
  await page.getByText('live', { exact: true }).waitFor();
  await page.getByText('Nothing to do.').waitFor();
  return page;
}

async function shows(page, titles) {
  await page.waitForFunction(
    (wanted) => [...document.querySelectorAll('li')].map((item) => item.firstChild.textContent).join() === wanted,
    titles.join(),
  );
}

try {
  const [ann, cleo, ben] = [await logIn('ann'), await logIn('cleo'), await logIn('ben')];
  for (const title of ['sow', 'dig <b>deep</b>']) {
    await ann.getByPlaceholder('What is to be done?').fill(title);
    await ann.getByRole('button', { name: 'Add' }).click();
    await cleo.getByText(title, { exact: true }).waitFor();
  }
  await shows(cleo, ['dig <b>deep</b>', 'sow']);
  if (image) await cleo.screenshot({ path: image });
  // The application writes as it always did: in bulk, and as text.
  const shout = await ann.request.post(`${url}/teams/1/shout`, {
    headers: { authorization: `Bearer ${await token('ann')}` },
  });
  assert.equal(shout.status(), 204);
  for (const page of [ann, cleo]) await shows(page, ['DIG <B>DEEP</B>', 'SOW']);
  await cleo.getByRole('button', { name: 'Done' }).last().click();
  await shows(ann, ['DIG <B>DEEP</B>']);
  await shows(ben, []);
  assert.deepEqual(complaints, []);
} finally {
  await browser.close();
}

async function token(name) {
  const answer = await fetch(`${url}/login`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ name, password: 'x' }),
  });
  return (await answer.json()).access_token;
}
