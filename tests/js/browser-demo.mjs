// Drives the demo's page in a real browser: node browser-demo.mjs <url> <scenario> [image [folder]]
// CHROMIUM names the browser. A scenario that fails says what it waited for and ends with 1.
// The scenario `restart` writes "restart" and goes on when a line comes in.

import assert from 'node:assert/strict';
import { connect, createServer } from 'node:net';
import { createInterface } from 'node:readline';

import { chromium } from 'playwright-core';

const [url, name, image, images] = process.argv.slice(2);
const PATIENCE = 8000;
const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];
const USERS = { Ann: 1, Ben: 2, Cleo: 3, Ada: 4 };
const people = [];
let browser;

// ---------------------------------------------------------------------------------------------
// One person at one page.

class Person {
  static async at(user, { base = url, path = `/board?user=${USERS[user]}` } = {}) {
    const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
    const page = await context.newPage();
    page.setDefaultTimeout(PATIENCE);
    const person = new Person(user, page, base);
    people.push(person);
    await page.goto(base + path);
    if (path !== '/') {
      await person.live();
      await page.locator('.card').first().waitFor();
    }
    // Gone after a reload, which nobody here should need.
    await page.evaluate(() => (window.stayed = true));
    return person;
  }

  constructor(user, page, base) {
    Object.assign(this, { user, page, complaints: [], foreign: [], expected: [] });
    page.on('pageerror', (error) => this.complaints.push(`${error.stack ?? error}`));
    page.on('console', (message) => {
      if (!['error', 'warning'].includes(message.type())) return;
      const text = `${message.text()} ${message.location().url}`;
      if (!this.expected.some((pattern) => pattern.test(text))) this.complaints.push(text);
    });
    page.on('request', (request) => {
      if (!request.url().startsWith(base)) this.foreign.push(request.url());
    });
  }

  card(title) {
    const heading = this.page.getByRole('heading', { name: title, exact: true });
    return this.page.locator('.card:not([inert])').filter({ has: heading });
  }

  async sees(title, { status, author, views } = {}) {
    const card = this.card(title);
    await card.waitFor();
    const part = (name, hasText) => card.locator(name, { hasText }).waitFor();
    if (status) await part('.status', new RegExp(`^${status}$`));
    if (author) await part('.author', new RegExp(`^${author}$`));
    if (views !== undefined) await part('.views', new RegExp(`^${views} views?$`));
  }

  misses(title) {
    return this.card(title).waitFor({ state: 'detached' });
  }

  async titles() {
    return this.page.locator('.card:not([inert]) .title').allTextContents();
  }

  async shows(titles) {
    const wanted = JSON.stringify(titles);
    await this.page
      .waitForFunction(
        (text) =>
          JSON.stringify(
            [...document.querySelectorAll('.card:not([inert]) .title')].map((e) => e.textContent),
          ) === text,
        wanted,
      )
      .catch(async () => assert.deepEqual(await this.titles(), titles));
  }

  does(action, title) {
    return this.card(title).getByRole('button', { name: `${action}: ${title}` }).click();
  }

  dialog() {
    return this.page.getByRole('dialog', { name: 'New post' });
  }

  async creates({ title, content = '', status = 'draft' }) {
    await this.page.getByRole('button', { name: 'New post' }).click();
    const dialog = this.dialog();
    await dialog.getByLabel('Title').fill(title);
    await dialog.getByLabel('Content').fill(content);
    await dialog.getByLabel('Status').selectOption(status);
    await dialog.getByRole('button', { name: 'Save' }).click();
    await dialog.waitFor({ state: 'hidden' });
  }

  async retitles(title, changed) {
    await this.does('Edit', title);
    const card = this.card(title);
    await card.getByLabel('Title').fill(changed);
    await card.getByRole('button', { name: 'Save' }).click();
    await this.page.locator('.editor').waitFor({ state: 'detached' });
  }

  filter(label) {
    return this.page.locator('#filters').getByLabel(label);
  }

  live(state = 'live') {
    return this.page.locator(`#connection[data-state="${state}"]`).waitFor();
  }

  // The log's notifications, oldest first, once there are so many.
  async notifications(count) {
    const entries = this.page.locator('#log code');
    if (count > 0) await entries.nth(count - 1).waitFor();
    return (await entries.allTextContents()).reverse().map((text) => {
      assert.ok(Buffer.byteLength(text) < 200, `a long notification: ${text}`);
      return JSON.parse(text);
    });
  }

  async ways(count) {
    return (await this.notifications(count)).map(({ meta }) => meta.change);
  }

  async isContent() {
    assert.deepEqual(this.complaints, [], `${this.user}'s console`);
    assert.deepEqual(this.foreign, [], `${this.user}'s page asked elsewhere`);
    assert.equal(await this.page.evaluate(() => window.stayed), true, `${this.user} reloaded`);
  }
}

// A line to the server that can be cut, abruptly, and mended.
class Line {
  static async to(target) {
    const line = new Line(target);
    await line.mend();
    return line;
  }

  constructor(target) {
    this.port = 0;
    this.ends = new Set();
    this.listener = createServer((near) => this.#join(near, connect(target, '127.0.0.1')));
  }

  get url() {
    return `http://127.0.0.1:${this.port}`;
  }

  async cut() {
    const closed = new Promise((resolve) => this.listener.close(resolve));
    for (const end of this.ends) end.destroy();
    await closed;
  }

  async mend() {
    await new Promise((resolve) => this.listener.listen(this.port, '127.0.0.1', resolve));
    this.port = this.listener.address().port;
  }

  #join(near, far) {
    for (const end of [near, far]) {
      this.ends.add(end);
      end.on('error', () => null);
      end.on('close', () => {
        this.ends.delete(end);
        near.destroy();
        far.destroy();
      });
    }
    near.pipe(far).pipe(near);
  }
}

// ---------------------------------------------------------------------------------------------
// What they do.

const NORTH = [
  'Fog tomorrow before noon',
  'Notes from the harbour meeting',
  'Ferry moves to pier four',
  'The lighthouse gets a new lamp',
  'Winter timetable',
];
const SOUTH = ['Regatta: call for volunteers', 'Rota for the ice house', 'South harbour opens early'];

const scenarios = {
  async 'two pages'() {
    const [ann, ben] = [await Person.at('Ann'), await Person.at('Ben')];
    await ann.shows(NORTH);
    await ben.shows(NORTH);

    await ann.creates({ title: 'A seal on the slipway', content: 'It likes herring.' });
    for (const one of [ann, ben]) {
      await one.sees('A seal on the slipway', { status: 'draft', author: 'Ann', views: 0 });
    }
    await ann.retitles('A seal on the slipway', 'Two seals on the slipway');
    await ben.sees('Two seals on the slipway');
    await ben.misses('A seal on the slipway');

    await ann.does('Publish', 'Two seals on the slipway');
    await ben.sees('Two seals on the slipway', { status: 'published' });
    await ben.does('+10 views', 'Two seals on the slipway');
    await ann.sees('Two seals on the slipway', { views: 10 });

    await ann.does('Delete', 'Two seals on the slipway');
    await ben.misses('Two seals on the slipway');
    await ann.misses('Two seals on the slipway');
    await ben.shows(NORTH);

    const told = await ben.notifications(5);
    assert.deepEqual(
      told.map(({ type, action, meta }) => [type, action, meta.change]),
      [
        ['resource.created', 'post', 'enter'],
        ['resource.updated', 'patch', 'update'],
        ['resource.updated', 'patch', 'update'],
        ['resource.updated', 'patch', 'update'],
        ['resource.deleted', 'delete', 'leave'],
      ],
    );
    for (const notification of told) {
      const { meta, ...rest } = notification;
      assert.deepEqual(Object.keys(rest), ['type', 'resource', 'id', 'action', 'subscriptionId']);
      assert.deepEqual(Object.keys(meta), ['timestamp', 'cursor', 'change']);
      assert.doesNotMatch(JSON.stringify(notification), /seal|slipway|herring|Ann|north/);
    }
    assert.deepEqual(await ann.notifications(5), told, 'equal subscriptions, equal packets');
  },

  async 'other workspace'() {
    const [ann, cleo, ada] = [
      await Person.at('Ann'),
      await Person.at('Cleo'),
      await Person.at('Ada'),
    ];
    await cleo.shows(SOUTH);
    await ann.creates({ title: 'Only for the north', status: 'published' });
    await ann.does('+10 views', 'Only for the north');
    await ann.sees('Only for the north', { views: 10 });
    await ada.sees('Only for the north', { views: 10 });

    // Her own change comes after them in the one order; it is all that came.
    await cleo.does('Publish', 'Rota for the ice house');
    await cleo.sees('Rota for the ice house', { status: 'published' });
    await cleo.shows(SOUTH);
    assert.deepEqual(await cleo.ways(1), ['update']);
    await ada.sees('Rota for the ice house', { status: 'published' });
    assert.deepEqual(await ada.ways(3), ['enter', 'update', 'update']);

    // Ann becomes Cleo at the same page.
    await ann.page.getByLabel('Cleo').check();
    await ann.live();
    await ann.shows(SOUTH);
    assert.deepEqual(await ann.ways(0), []);
    await cleo.does('+10 views', 'Rota for the ice house');
    await ann.sees('Rota for the ice house', { views: 14 });
  },

  async filters() {
    const [ann, ben] = [await Person.at('Ann'), await Person.at('Ben')];
    const draft = 'Notes from the harbour meeting';
    await ben.filter('Status').selectOption('published');
    await ben.shows(NORTH.filter((title) => ![draft, 'Winter timetable'].includes(title)));
    await ann.does('Publish', draft);
    await ben.sees(draft, { status: 'published' });
    await ann.does('Unpublish', draft);
    await ben.misses(draft);
    assert.deepEqual(await ben.ways(2), ['enter', 'leave']);

    await ben.filter('Author').selectOption('Ben');
    await ben.filter('Minimum views').fill('60');
    await ben.filter('Text').fill('CAFÉ');
    await ben.shows(['Ferry moves to pier four']);
    await ben.filter('Minimum views').fill('84');
    await ben.shows([]);
    await ben.page.getByText('No post passes these filters').waitFor();
    await ann.does('+10 views', 'Ferry moves to pier four');
    await ben.sees('Ferry moves to pier four', { views: 84 });
    await ann.retitles('Fog tomorrow before noon', 'Fog, so the café opens late');
    await ann.sees('Fog, so the café opens late', { views: 51 });
    assert.deepEqual(await ben.ways(3), ['enter', 'leave', 'enter']);

    await ben.page.getByRole('button', { name: 'Clear' }).click();
    await ben.sees('Winter timetable');
    await ben.sees('Fog, so the café opens late');
  },

  async refusals() {
    const [ann, ben, ada] = [
      await Person.at('Ann'),
      await Person.at('Ben'),
      await Person.at('Ada'),
    ];
    ann.expected.push(/status of 422/);

    await ann.page.getByRole('button', { name: 'New post' }).click();
    const dialog = ann.dialog();
    await dialog.getByLabel('Title').fill('No');
    await dialog.getByRole('button', { name: 'Save' }).click();
    await dialog.getByText('Must have at least 3 characters').waitFor();
    const title = dialog.getByLabel('Title');
    assert.equal(await title.getAttribute('aria-invalid'), 'true');
    const place = await title.evaluate((field) => field.getAttribute('aria-describedby'));
    const beside = await ann.page.locator(`#${place}`).textContent();
    assert.match(beside, /at least 3 characters/);
    const markup = '<img src=x onerror="window.hacked = true">';
    await title.fill(markup);
    await dialog.getByRole('button', { name: 'Save' }).click();
    await dialog.waitFor({ state: 'hidden' });
    await ben.sees(markup);
    assert.equal(await ben.page.evaluate(() => window.hacked), undefined);

    // What would be refused is not offered.
    const offered = ben.card(markup).getByRole('button');
    assert.deepEqual(await offered.allTextContents(), ['Edit', 'Publish', '+10 views']);
    const all = await ada.card(markup).getByRole('button').allTextContents();
    assert.deepEqual(all, ['Edit', 'Publish', '+10 views', 'Delete']);
    await ann.does('Delete', markup);
    await ben.misses(markup);
  },

  async 'open form'() {
    const [ann, ben] = [await Person.at('Ann'), await Person.at('Ben')];
    const title = 'The lighthouse gets a new lamp';
    await ben.does('Edit', title);
    const field = ben.card(title).getByLabel('Title');
    await field.fill('Ben is still typing');
    await ann.does('+10 views', title);
    await ben.sees(title, { views: 138 });
    assert.equal(await field.inputValue(), 'Ben is still typing');
    await ann.does('Delete', title);
    await ben.page.getByText('This post has left the list.').waitFor();
    assert.equal(await field.inputValue(), 'Ben is still typing');
    await ben.card(title).getByRole('button', { name: 'Cancel' }).click();
    await ben.misses(title);
  },

  async keyboard() {
    const { page } = await Person.at('Ann');
    const opener = page.getByRole('button', { name: 'New post' });
    await opener.focus();
    await page.keyboard.press('Enter');
    await page.keyboard.type('Written without a mouse');
    await page.keyboard.press('Escape');
    await page.locator('dialog').waitFor({ state: 'hidden' });
    assert.ok(await opener.evaluate((button) => button === document.activeElement));
    await page.keyboard.press('Enter');
    await page.keyboard.type('Written without a mouse');
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { name: 'Written without a mouse' }).waitFor();
    await page.getByRole('status').filter({ hasText: 'mouse: new in the list' }).waitFor();
    await page.getByRole('button', { name: 'Delete: Written without a mouse' }).focus();
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { name: 'Written without a mouse' }).waitFor({ state: 'detached' });
    assert.equal(await page.evaluate(() => document.activeElement.textContent), NORTH[0]);
  },

  async 'lost connection'() {
    const ann = await Person.at('Ann');
    const line = await Line.to(new URL(url).port);
    const ben = await Person.at('Ben', { base: line.url });
    ben.expected.push(/ERR_|WebSocket/); // the network's own words
    const id = await ben.page.locator('#subscription').textContent();

    await line.cut();
    await ben.live('away');
    await ann.creates({ title: 'While Ben was away' });
    await ann.does('Delete', 'While Ben was away');
    await ann.misses('While Ben was away');
    await ann.does('+10 views', 'Ferry moves to pier four');
    await ann.sees('Ferry moves to pier four', { views: 84 });
    await ben.sees('Ferry moves to pier four', { views: 74 });

    await line.mend();
    await ben.live();
    await ben.sees('Ferry moves to pier four', { views: 84 });
    await ben.shows(NORTH);
    assert.equal(await ben.page.locator('#subscription').textContent(), id, 'restored as it was');
    await ann.does('+10 views', 'Ferry moves to pier four');
    await ben.sees('Ferry moves to pier four', { views: 94 });
  },

  async restart() {
    const [ann, ben] = [await Person.at('Ann'), await Person.at('Ben')];
    for (const one of [ann, ben]) one.expected.push(/./); // whatever the network says meanwhile
    await ann.creates({ title: 'Gone with the old database' });
    await ben.sees('Gone with the old database');
    const lines = createInterface({ input: process.stdin });
    const restarted = new Promise((resolve) => lines.once('line', resolve));
    console.log('restart');
    await restarted;
    lines.close();

    // A new secret and a new history: new tokens, restored subscriptions, lists refetched.
    for (const one of [ann, ben]) {
      await one.misses('Gone with the old database');
      await one.live();
      await one.shows(NORTH);
    }
    await ann.does('Publish', 'Notes from the harbour meeting');
    await ben.sees('Notes from the harbour meeting', { status: 'published' });
  },

  async 'both sides'() {
    const { page } = await Person.at('Ann', { path: '/', base: url });
    const [left, right] = page.frames().slice(1);
    const card = (frame, title) => frame.locator('.card:not([inert])').filter({ hasText: title });
    for (const frame of [left, right]) await card(frame, NORTH[0]).waitFor();

    await right.getByLabel('Status').first().selectOption('published');
    await card(right, 'Winter timetable').waitFor({ state: 'detached' });
    await left.getByRole('button', { name: 'New post' }).click();
    const dialog = left.getByRole('dialog', { name: 'New post' });
    await dialog.getByLabel('Title').fill('The café stays open until ten');
    await dialog.getByLabel('Status').selectOption('published');
    await dialog.getByRole('button', { name: 'Save' }).click();
    await card(right, 'The café stays open until ten').waitFor();
    await card(left, 'Ferry moves to pier four').getByRole('button', { name: '+10 views' }).click();
    await card(right, 'Ferry moves to pier four').getByText('84 views').waitFor();

    // Both halves of one conversation: what was subscribed, what was asked, what was told.
    const { cursor, ...subscribed } = JSON.parse(await right.locator('#subscribed').textContent());
    assert.match(cursor, /^\w+\.\d+$/); // where its list was loaded, so that nothing falls between
    assert.deepEqual(subscribed, {
      resource: 'posts',
      filters: { workspace_id: 'north', status: 'published' },
    });
    const requests = await right.locator('#requests code').allTextContents();
    assert.match(requests.at(-1), /^GET \/api\/posts\?/);
    assert.ok(requests.some((text) => text.includes('filter[id]=')), requests.join('\n'));
    const asked = await left.locator('#requests code').allTextContents();
    assert.ok(asked.some((text) => /^PATCH .*"view_count":84/.test(text)), asked.join('\n'));
    assert.equal(await right.locator('#requests .code:not([data-ok="true"])').count(), 0);
    const ways = await right.locator('#log .way').allTextContents();
    assert.deepEqual(ways, ['update', 'enter']);
    const links = page.getByRole('navigation').getByRole('link');
    for (const link of await links.all()) {
      const answer = await page.request.get(new URL(await link.getAttribute('href'), url).href);
      assert.equal(answer.status(), 200);
    }
    // In the demo, which has no passwords, the inspector opens without a token.
    const inspector = await page.context().newPage();
    await inspector.goto(`${url}/inspector`);
    await inspector.getByText('Live', { exact: true }).waitFor();
    await inspector.locator('#changes > li').filter({ hasText: 'posts 5' }).first().waitFor();
    await inspector.close();
    await left.locator('.board').evaluate((board) => board.scrollTo(0, 0));
    if (image) await page.screenshot({ path: image });
    if (!images) return;
    await page.emulateMedia({ colorScheme: 'dark' });
    await page.screenshot({ path: `${images}/demo-dark.png` });
    await page.emulateMedia({ colorScheme: 'light' });
    await page.setViewportSize({ width: 390, height: 844 });
    await page.screenshot({ path: `${images}/demo-phone.png` });
    const cleo = (await Person.at('Cleo')).page;
    await cleo.screenshot({ path: `${images}/demo-alone.png` });
    await cleo.setViewportSize({ width: 390, height: 844 });
    await cleo.screenshot({ path: `${images}/demo-phone-alone.png` });
  },
};

async function main() {
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: FLAGS });
  try {
    await scenarios[name]();
    for (const person of people) await person.isContent();
  } catch (error) {
    for (const { user, complaints } of people) {
      if (complaints.length) console.error(`${user}'s console:`, complaints.join('\n'));
    }
    throw error;
  } finally {
    await browser.close();
  }
}

try {
  await main();
  process.exit(0);
} catch (error) {
  console.error(error);
  process.exit(1);
}
