// Random schedules of load, subscribe, change, latency, cut, restart and renewal. At the end of each
// the client's list has to be what the server answers:
//   node schedules.mjs --schedules 200 [--seed 1] [--client package|old] [--beside 40]

import { isDeepStrictEqual, parseArgs } from 'node:util';

import { createClient } from '../dist/index.js';
import { OldLiveList } from './old-example.mjs';
import { answerOf, command, create, Line, remove, server, sleep, SOCKET, tokenOf, tracedFetch, until, update } from './support.mjs';

const { values } = parseArgs({
  options: {
    schedules: { type: 'string', default: '200' },
    seed: { type: 'string', default: '1' },
    beside: { type: 'string', default: '40' },
    client: { type: 'string', default: 'package' },
  },
});
const FIRST = Number(values.seed);
const PATIENCE = values.client === 'old' ? 3_000 : 60_000;
const authors = [];

/** mulberry32: the same seed, the same schedule (but for what the machine makes of it). */
function randomOf(seed) {
  let state = seed;
  const next = () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  const below = (most) => Math.floor(next() * most);
  return { next, below, chance: (part) => next() < part, of: (array) => array[below(array.length)] };
}

class Schedule {
  constructor(seed) {
    this.seed = seed;
    this.random = randomOf(seed);
    this.room = `r${seed}`;
    this.ids = [];
    this.events = [];
    const { random } = this;
    this.sort = random.of([undefined, ['-views', 'title'], ['status', '-title'], ['-id']]);
    this.filters = { room: this.room, ...(random.chance(0.7) ? { status: 'published' } : {}) };
    this.query = Object.entries(this.filters)
      .map(([name, value]) => `filter[${name}]=${value}`)
      .concat('include=author', `sort=${this.sort ?? 'id'}`)
      .join('&');
    this.latency = random.of([0, 5, 20, 60]);
    this.writes = 3 + random.below(8);
    this.renews = random.chance(0.2);
  }

  delay = () => this.random.next() * this.latency;

  attributes(whole) {
    const { random } = this;
    const all = {
      room: random.chance(0.85) ? this.room : `${this.room}x`,
      status: random.of(['draft', 'published', 'published', null]),
      title: random.of(['a', 'b', 'ä', '\u{1f600}', '\uffee']) + random.below(9),
      views: random.chance(0.2) ? null : random.below(5),
      author_id: random.chance(0.3) ? null : random.of(authors),
    };
    if (whole) return { ...all, room: this.room };
    const names = Object.keys(all).filter(() => random.chance(0.4));
    return Object.fromEntries(names.map((name) => [name, all[name]]));
  }

  /** One of the four; the last one writes through the client, if it can. */
  async write(number) {
    const { random } = this;
    for (let step = 0; step < this.writes; step++) {
      await sleep(random.next() * (this.renews ? 250 : 30));
      const id = random.of(this.ids);
      const mine = number === 3 && this.subject.client;
      const what = id === undefined || random.chance(0.3) ? 'create' : random.of(['update', 'update', 'remove']);
      this.events.push(`${what} ${id ?? ''}${mine ? ' by the client' : ''}`);
      if (what === 'create') {
        const attributes = this.attributes(true);
        const made = mine ? await mine.create('posts', attributes).catch(() => null) : await create(attributes);
        // A write of the client's own whose answer was cut off may have been made or not.
        if (made) this.ids.push(made.id ?? made);
      } else if (what === 'update') {
        const attributes = this.attributes(false);
        await (mine ? mine.update('posts', id, attributes).catch(() => null) : update(id, attributes));
      } else {
        this.ids = this.ids.filter((other) => other !== id);
        await (mine ? mine.remove('posts', id).catch(() => null) : remove(id));
      }
    }
  }

  async cut() {
    const { random, line } = this;
    for (let times = random.of([0, 0, 1, 2]); times > 0; times--) {
      await sleep(random.next() * 150);
      this.events.push('cut');
      await line.cut();
      await sleep(random.next() * 80);
      await line.mend();
    }
  }

  async play() {
    const { random } = this;
    for (let count = random.below(12); count > 0; count--) this.ids.push(await create(this.attributes(true)));
    this.line = await Line.open(this.delay);
    this.fetch = tracedFetch({ delay: this.delay });
    const begins = random.next() * 60;
    this.subject = values.client === 'old' ? new OldSubject(this) : new Subject(this);
    const begin = sleep(begins).then(() => this.subject.start());
    await Promise.all([begin, this.cut(), ...[0, 1, 2, 3].map((number) => this.write(number))]);
    this.expected = await answerOf(this.query);
    try {
      await until(() => this.subject.isRight(), 'right', PATIENCE);
      // Nothing that is still under way may spoil it.
      await sleep(250);
      await until(() => this.subject.isRight(), 'right for good', PATIENCE);
      return null;
    } catch (error) {
      return `seed ${this.seed}: ${error.message}\n  ${this.subject.shown()}\n  expected ${short(this.expected)}\n  ${this.events.join(', ')}`;
    } finally {
      this.subject.close();
      await this.line.close();
    }
  }
}

const short = ({ data, included }) =>
  `${data.map(({ id, attributes: { status, title, views } }) => `${id}:${status}/${title}/${views}`).join(' ')} (${included?.length} included)`;
const byKey = (records) => Object.fromEntries(records.map((record) => [`${record.type} ${record.id}`, record]));

class Subject {
  constructor(schedule) {
    this.schedule = schedule;
    const { line, fetch, renews, filters, sort, random } = schedule;
    let token;
    this.client = createClient({
      url: line.url,
      fetch,
      socket: { ...SOCKET, ...(random.chance(0.1) ? { transports: ['polling'] } : {}) },
      batch: random.of([5, 20, 100]),
      pageSize: 2 + random.below(5),
      token: ({ renew }) => {
        if (!token || renew) token = tokenOf(`u${schedule.seed}`, renews ? 1.5 : 3600);
        return token;
      },
    });
    this.list = this.client.live('posts', { filters, include: ['author'], sort });
    if (renews) this.client.onStatus((status) => schedule.events.push(status));
  }

  start() {
    this.off = this.list.subscribe(() => null);
  }

  isRight() {
    const { data, included, isLive } = this.list.getSnapshot();
    const { expected } = this.schedule;
    return (
      isLive &&
      isDeepStrictEqual(data, expected.data) &&
      isDeepStrictEqual(byKey(included), byKey(expected.included))
    );
  }

  shown() {
    const snapshot = this.list.getSnapshot();
    return `${this.client.status}, ${snapshot.status}, ${snapshot.isLive ? 'live' : 'not live'}, ${snapshot.error}: ${short(snapshot)} ${JSON.stringify(this.list.debug?.())} ${this.schedule.fetch.open} ${this.schedule.fetch.urls.slice(-2)}`;
  }

  close() {
    this.off?.();
    this.client.close();
  }
}

/** The client that docs/realtime.md showed until there was a package. */
class OldSubject {
  constructor(schedule) {
    this.schedule = schedule;
    this.records = new Map();
  }

  start() {
    const { line, fetch, filters, query, seed } = this.schedule;
    const path = `/api/posts?${query}&page[size]=100`;
    const changed = (records) => (this.records = records);
    const subscription = { resource: 'posts', filters };
    this.live = new OldLiveList(line.url, tokenOf(`u${seed}`), path, subscription, changed, { fetch, ...SOCKET });
  }

  // It makes no promise of an order, and of related records it keeps none.
  isRight() {
    return isDeepStrictEqual(byKey([...this.records.values()]), byKey(this.schedule.expected.data));
  }

  shown() {
    return short({ data: [...this.records.values()] });
  }

  close() {
    this.live?.socket.disconnect();
  }
}

const schedules = Number(values.schedules);
const beside = Number(values.beside);
const began = Date.now();
let failed = 0;
for (let name = 0; name < 3; name++) authors.push(await create({ name: `n${name}` }, 'users'));
process.on('uncaughtException', (error) => {
  // What the old example throws from an answer that was cut off; of ours nothing may be thrown.
  if (values.client === 'old') return;
  failed++;
  console.log(`uncaught: ${error.stack}`);
});
for (let done = 0; done < schedules; done += beside) {
  const count = Math.min(beside, schedules - done);
  const random = randomOf(FIRST + done);
  const restarts = values.client !== 'old' && random.chance(0.5);
  const restart = async () => {
    if (!restarts) return;
    await sleep(100 + random.next() * 300);
    await command('restart');
    if (process.env.VERBOSE) console.error('restarted', server());
  };
  const all = Array.from({ length: count }, (_, index) => new Schedule(FIRST + done + index).play());
  const [results] = await Promise.all([Promise.all(all), restart()]);
  if (process.env.VERBOSE) console.error(FIRST + done, Date.now() - began);
  for (const failure of results.filter(Boolean)) {
    failed++;
    console.log(failure);
  }
}
const seconds = ((Date.now() - began) / 1000).toFixed(1);
console.log(`${schedules} schedules in ${seconds} s, of which ${failed} failed (server at ${server()})`);
process.exit(failed ? 1 : 0);
