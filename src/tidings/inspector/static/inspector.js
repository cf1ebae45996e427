// The inspector's page. All that it shows are texts of others (ids, filters), so nothing here makes
// markup of a text: `element` sets text and attributes, and the page's policy forbids the rest.

const EVERY = 2000; // milliseconds between two looks
const AWAY = 5000;
const TRIES = 12; // so often another process may answer than the one that is asked for
const KEPT = `tidings-inspector ${new URL('.', import.meta.url).pathname}`;
const NOBODY = '(not signed in)';

const at = (id) => document.getElementById(id);
let token = sessionStorage.getItem(KEPT);
let pinned = null; // the process that is shown
let isPaused = false;
let timer = null;
let failures = 0;
let looking = 0; // the newest look; the answers of earlier ones are dropped
let before = null; // the figures of the look before, for rates
let shown = null;
const processes = new Set();
const opened = new Map(); // cursor -> the explanation that is open, or null while it is on its way

class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

// ---------------------------------------------------------------------------------------------
// Asking.

async function ask(name, parameters) {
  for (let tries = 0; tries < TRIES; tries += 1) {
    const url = new URL(name, import.meta.url);
    const given = { ...parameters, process: pinned };
    for (const [key, value] of Object.entries(given)) if (value) url.searchParams.set(key, value);
    const headers = token ? { authorization: `Bearer ${token}` } : {};
    const response = await fetch(url, { headers, cache: 'no-store' });
    const answer = await response.json().catch(() => ({}));
    if (answer.process && !processes.has(answer.process)) {
      processes.add(answer.process);
      pinned ??= answer.process;
      showProcesses();
    }
    if (response.ok) return answer;
    if (response.status !== 409) {
      throw new Refused(response.status, answer.message ?? `The server answered ${response.status}`);
    }
  }
  processes.delete(pinned);
  pinned = null;
  showProcesses();
  throw new Refused(409, 'That process does not answer any more');
}

async function look() {
  clearTimeout(timer);
  looking += 1;
  const mine = looking;
  try {
    const figures = await ask('data', { user: at('user').value.trim() });
    if (mine !== looking) return;
    failures = 0;
    shown = figures;
    show(figures);
  } catch (error) {
    if (mine !== looking) return;
    if (error.status === 401 || error.status === 403) return signOut(token ? error.message : null);
    failures += 1;
    showState('away', 'Away');
    showText(at('trouble'), error instanceof Refused ? error.message : 'The server cannot be reached.');
  }
  later();
}

function later() {
  clearTimeout(timer);
  if (!isPaused && !document.hidden) timer = setTimeout(look, failures > 1 ? AWAY : EVERY);
}

async function explain(cursor, user) {
  try {
    opened.set(cursor, await ask('explain', { cursor, user }));
  } catch (error) {
    opened.set(cursor, { problem: error.message });
  }
  showChanges();
}

// ---------------------------------------------------------------------------------------------
// Making and keeping elements.

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith('on')) made.addEventListener(key.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

// The list's items by key: what is there already stays the element it is, with its focus.
function keep(list, items, keyOf, make) {
  const old = new Map([...list.children].map((child) => [child.dataset.key, child]));
  let place = null;
  for (const item of items) {
    const key = String(keyOf(item));
    const print = JSON.stringify(item);
    let child = old.get(key);
    old.delete(key);
    if (!child || child.print !== print) {
      const made = make(item);
      made.dataset.key = key;
      made.print = print;
      child?.replaceWith(made);
      child = made;
    }
    const next = place ? place.nextSibling : list.firstChild;
    if (next !== child) list.insertBefore(child, next);
    place = child;
  }
  for (const child of old.values()) child.remove();
}

function showText(node, text) {
  node.textContent = text ?? '';
  node.hidden = !text;
}

function showState(state, text) {
  at('state').dataset.state = state;
  if (at('state').textContent !== text) at('state').textContent = text; // it is read aloud
}

// ---------------------------------------------------------------------------------------------
// Words and figures.

const whole = new Intl.NumberFormat('en');
const clock = new Intl.DateTimeFormat('en-GB', { timeStyle: 'medium' });
const some = (count, what) => `${whole.format(count)} ${what}${count === 1 ? '' : 's'}`;
const moment = (seconds) => clock.format(new Date(seconds * 1000));

function bytes(count) {
  const units = ['B', 'kB', 'MB', 'GB'];
  let unit = 0;
  let value = count;
  while (value >= 1000 && unit < units.length - 1) [value, unit] = [value / 1000, unit + 1];
  return `${unit && value < 100 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

function span(seconds) {
  if (seconds === null || seconds === undefined) return '–';
  if (seconds === 0) return '0 s';
  if (seconds < 0.001) return `${Math.round(seconds * 1e6)} µs`;
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 120) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return `${Math.round(seconds / 3600)} h`;
}

// ---------------------------------------------------------------------------------------------
// Showing.

function show(figures) {
  at('inside').hidden = at('pause').hidden = false;
  at('leave').hidden = !token;
  at('sign-in').hidden = true;
  showText(at('trouble'), null);
  showText(at('name'), figures.api.name);
  document.title = `${figures.api.name} · inspector`;
  if (!figures.feed) {
    showState('away', 'Not open');
    showText(at('trouble'), `The api is ${figures.state}.`);
    return;
  }
  showState('live', isPaused ? 'Paused' : 'Live');
  showTiles(figures);
  showChanges();
  showResyncs(figures.sockets?.resyncs ?? {});
  showFilters(figures);
  showConnections(figures);
  at('about').textContent =
    `${figures.api.name} ${figures.api.version}, tidings ${figures.api.tidings}. What is shown is of process ` +
    `${figures.process}, since ${new Date(figures.since * 1000).toLocaleString('en-GB')}.`;
  before = figures;
}

function showTiles({ sockets, feed, at: now }) {
  const tiles = [];
  const tile = (name, value, note = '', bad = false) => tiles.push({ name, value, note, bad });
  if (sockets) {
    const seconds = before?.sockets ? now - before.at : 0;
    const rate = seconds > 0 ? (sockets.notifications - before.sockets.notifications) / seconds : 0;
    tile('Connections', whole.format(sockets.connections));
    tile('Subscriptions', whole.format(sockets.subscriptions));
    tile('Distinct filters', whole.format(sockets.filters));
    const each = rate < 10 ? rate.toFixed(1) : whole.format(Math.round(rate));
    tile('Notifications', whole.format(sockets.notifications), `${each} a second`);
    const { half, most, count } = sockets.delay;
    tile('Write to told', count ? `≤ ${span(half)}` : '–', count ? `99 of 100 ${most === null ? '> 10 s' : `≤ ${span(most)}`}` : 'half of all changes');
    const slow = sockets.behind + sockets.dropped;
    tile('Queued', bytes(sockets.queueBytes), slow ? `${whole.format(sockets.behind)} fell behind, ${whole.format(sockets.dropped)} dropped` : 'nobody fell behind');
  }
  if (feed.behind !== undefined) {
    tile('Feed lag', span(feed.lag), some(feed.behind, 'change') + ' behind', feed.lag > 5);
  }
  tile('Feed', feed.connected ? (feed.shared ? 'shared' : 'local') : 'away',
    `${bytes(feed.windowBytes)} remembered`, !feed.connected);
  if (feed.hasOutbox) {
    tile('Outbox age', span(feed.outboxAge), feed.outboxRows === null ? 'it did not answer' : some(feed.outboxRows, 'row'),
      feed.outboxRows === null || feed.outboxAge > 30);
  } else if (feed.waitingBytes !== null) {
    tile('To be published', bytes(feed.waitingBytes), 'in memory');
  }
  keep(at('tiles'), tiles, (one) => one.name, ({ name, value, note, bad }) =>
    element('div', { 'data-bad': bad || null }, element('dt', {}, name),
      element('dd', {}, value, element('small', {}, note))));
}

const WAYS = ['enter', 'update', 'leave', 'resync'];
const KINDS = {
  post: 'created', patch: 'changed', update: 'replaced', delete: 'deleted',
  related: 'a related record changed', many: 'many records changed', rights: 'rights were checked anew',
};

function ways(counts) {
  const told = WAYS.filter((way) => counts[way]);
  if (!told.length) return element('span', { class: 'way' }, 'nobody told');
  return element('span', { class: 'ways' }, ...told.map((way) =>
    element('span', { class: 'way', 'data-way': way }, `${whole.format(counts[way])} ${way}`)));
}

function showChanges() {
  if (!shown) return;
  const wanted = at('changes-filter').value.trim().toLowerCase();
  const changes = shown.changes
    .filter(({ resource, id }) => !wanted || `${resource ?? ''} ${id ?? ''}`.toLowerCase().includes(wanted))
    .map((change) => ({ ...change, isOpen: opened.has(change.cursor), why: opened.get(change.cursor) ?? null }));
  for (const cursor of opened.keys()) {
    if (!shown.changes.some((change) => change.cursor === cursor)) opened.delete(cursor);
  }
  keep(at('changes'), changes, (change) => change.cursor, changeRow);
  showText(at('changes-empty'), changes.length ? null
    : wanted ? 'None of the last changes is of that.' : 'Nothing has changed since this process started.');
  at('kept').textContent =
    `${some(shown.kept.changes, 'change')} kept, ${bytes(shown.kept.bytes)}. Counted are subscriptions of this process.`;
}

function changeRow({ cursor, at: when, resource, id, kind, ways: counts, isOpen, why }) {
  const what = [resource ?? 'everything', id].filter((one) => one !== null).join(' ');
  const toggle = () => {
    if (opened.delete(cursor)) return showChanges();
    opened.set(cursor, null);
    showChanges();
    document.querySelector(`[data-key="${CSS.escape(cursor)}"] button`)?.focus();
    return explain(cursor);
  };
  return element('li', {},
    element('div', { class: 'line' },
      element('time', {}, moment(when)),
      element('span', { class: 'grow' }, element('b', {}, what), ' ',
        element('span', { class: 'kind' }, KINDS[kind] ?? kind)),
      ways(counts),
      element('button', {
        type: 'button', 'aria-expanded': String(isOpen), onclick: toggle,
        'aria-label': `Who was told of ${what}, and why were others not?`,
      }, 'Why?')),
    isOpen ? explanation(cursor, why) : null);
}

function explanation(cursor, why) {
  const box = element('div', { class: 'why' });
  if (!why) return element('div', { class: 'why' }, element('p', { class: 'faint' }, 'Asking …'));
  if (why.problem) box.append(element('p', { class: 'problem' }, why.problem));
  const count = Object.values(why.change?.ways ?? {}).reduce((sum, one) => sum + one, 0);
  if (why.change) {
    const told = why.change.told;
    box.append(element('div', {}, element('h3', {}, count ? `Told: ${some(count, 'subscription')}` : 'Nobody was told'),
      element('ul', { class: 'told' },
        ...told.map(({ user, subscription, way }) => element('li', {},
          `${user ?? NOBODY} · ${subscription} `, element('span', { class: 'way', 'data-way': way }, way))),
        count > told.length ? element('li', { class: 'faint' }, `and ${whole.format(count - told.length)} more`) : null)));
    box.append(element('div', {}, element('h3', {}, notTold(why)), groups(why)));
  }
  const input = element('input', { type: 'text', placeholder: 'User id', 'aria-label': 'User id', value: why.user ?? '' });
  box.append(element('form', {
    onsubmit: (event) => { event.preventDefault(); explain(cursor, input.value.trim()); },
  }, element('span', {}, 'Why not'), input, element('button', { type: 'submit' }, 'Ask')));
  return box;
}

function notTold({ user, sockets, groupsFound, matching }) {
  if (user === null) return groupsFound ? 'Not told, of those who watch now' : 'Everybody who watches this resource now was told';
  if (!sockets) return `${user} has no connection to this process`;
  if (!groupsFound && !matching) return `${user} has no subscriptions`;
  return `${user}: ${some(matching, 'subscription')} told, and these not`;
}

function groups({ groups: listed, groupsFound, left }) {
  const list = element('ul', {}, ...listed.map(({ resource, filter, reason, subscriptions, users }) =>
    element('li', {}, element('span', {}, reason, ' '),
      element('span', { class: 'number' }, some(subscriptions, 'subscription'),
        users.length ? `: ${users.join(', ')}${subscriptions > users.length ? ' …' : ''}` : ''),
      filterText(resource, filter))));
  const more = [
    groupsFound > listed.length ? `${whole.format(groupsFound - listed.length)} more are not listed.` : '',
    left ? `${some(left, 'filter')} more were not looked at.` : '',
  ].join(' ').trim();
  if (more) list.append(element('li', { class: 'faint' }, more));
  return list;
}

function filterText(resource, filter) {
  return element('code', { class: 'filter' }, element('b', {}, resource), ` ${filter === 'always' ? 'all' : filter}`);
}

function showResyncs(resyncs) {
  const found = Object.entries(resyncs).filter(([, count]) => count).sort((a, b) => b[1] - a[1]);
  const most = Math.max(...found.map(([, count]) => count), 1);
  keep(at('resyncs'), found.map(([reason, count]) => ({ reason, count, most })), (one) => one.reason,
    ({ reason, count }) => element('li', {}, element('span', {}, reason),
      element('meter', { min: 0, max: most, value: count, 'aria-label': `${reason}: ${count}` }),
      element('span', { class: 'number' }, whole.format(count))));
  at('resyncs-empty').hidden = found.length > 0;
}

function showFilters({ filters = [], sockets }) {
  at('filters-count').textContent = sockets ? whole.format(sockets.filters) : '';
  keep(at('filters'), filters, (one) => one.key, ({ resource, filter, subscriptions }) =>
    element('li', { class: 'line' }, element('span', { class: 'grow' }, filterText(resource, filter)),
      element('span', { class: 'number' }, some(subscriptions, 'subscription'))));
  at('filters-empty').hidden = filters.length > 0;
}

function showConnections({ connections = [], connectionsFound = 0 }) {
  const wanted = at('user').value.trim();
  at('connections-count').textContent = connectionsFound > connections.length
    ? `${connections.length} of ${whole.format(connectionsFound)}` : whole.format(connectionsFound);
  keep(at('connections'), connections, (one) => one.socket, ({ user, subscriptions, count, unsent, held, expiresAt }) =>
    element('li', {}, element('div', { class: 'line' },
      element('b', { class: 'grow' }, user ?? NOBODY),
      element('span', { class: 'number' }, [
        unsent ? `${bytes(unsent)} unsent` : '', held ? `${whole.format(held)} held` : '',
        expiresAt ? `token until ${moment(expiresAt)}` : '', some(count, 'subscription'),
      ].filter(Boolean).join(', '))),
    ...subscriptions.map(({ resource, filter, permitted }) => {
      const line = filterText(resource, filter);
      if (!permitted) line.append(element('span', { class: 'way', 'data-way': 'leave' }, 'not permitted now'));
      return line;
    }),
    count > subscriptions.length ? element('span', { class: 'faint small' }, `and ${count - subscriptions.length} more`) : null));
  showText(at('connections-empty'), connections.length ? null : wanted ? `${wanted} has no connection to this process.` : 'Nobody is connected.');
}

function showProcesses() {
  const list = at('processes');
  list.hidden = processes.size < 2;
  keep(list, [...processes].sort().map((name) => ({ name, isShown: name === pinned })), (one) => one.name,
    ({ name, isShown }) => element('button', {
      type: 'button', title: name, 'aria-pressed': String(isShown),
      onclick: () => { pinned = name; before = null; opened.clear(); showProcesses(); look(); },
    }, name));
}

// ---------------------------------------------------------------------------------------------
// Signing in and out.

function signOut(message) {
  clearTimeout(timer);
  looking += 1;
  token = shown = before = pinned = null;
  opened.clear();
  processes.clear();
  showProcesses();
  sessionStorage.removeItem(KEPT);
  for (const id of ['changes', 'filters', 'connections', 'resyncs', 'tiles']) at(id).replaceChildren();
  at('inside').hidden = at('pause').hidden = at('leave').hidden = true;
  at('sign-in').hidden = false;
  showState('waiting', 'Signed out');
  showText(at('refusal'), message);
  at('token').focus();
}

at('sign-in-form').addEventListener('submit', (event) => {
  event.preventDefault();
  const given = at('token').value.trim().replace(/^bearer\s+/i, '');
  at('token').value = '';
  if (!/^[\x21-\x7e]+$/.test(given)) return showText(at('refusal'), 'That is no token.');
  token = given;
  if (at('keep').checked) sessionStorage.setItem(KEPT, token);
  return look();
});
at('leave').addEventListener('click', () => signOut(null));
at('pause').addEventListener('click', () => {
  isPaused = !isPaused;
  at('pause').setAttribute('aria-pressed', String(isPaused));
  if (!isPaused) return look();
  clearTimeout(timer);
  return showState('waiting', 'Paused');
});
at('changes-filter').addEventListener('input', showChanges);
let typing;
at('user').addEventListener('input', () => {
  clearTimeout(typing);
  typing = setTimeout(look, 250);
});
document.addEventListener('visibilitychange', () => (document.hidden ? clearTimeout(timer) : isPaused || look()));

// Without a token there is only something to ask where the application knows its users by a cookie.
if (token || document.body.dataset.knows === 'cookie') look();
else signOut(null);
