// What is on the page. All text from outside goes in as text, never as markup.

const byId = (id) => document.getElementById(id);
const MAX_ENTRIES = 200;
const LEAVING = 450;
const MAX_REQUESTS = 30;
const STATES = { connecting: 'Connecting', live: 'Live', away: 'Reconnecting' };
const relative = new Intl.RelativeTimeFormat('en', { numeric: 'auto' });
const exact = new Intl.DateTimeFormat('en', { dateStyle: 'medium', timeStyle: 'medium' });
const clock = new Intl.DateTimeFormat('en', {
  hour: '2-digit', minute: '2-digit', second: '2-digit', fractionalSecondDigits: 3, hour12: false,
});

export function stamped(id) {
  return byId(id).content.firstElementChild.cloneNode(true);
}

export function readable({ detail, message, title }) {
  const text = detail ?? message ?? title ?? 'Something went wrong';
  return text.endsWith('.') ? text : `${text}.`;
}

export function showProblem(element, text) {
  element.textContent = text ?? '';
  element.hidden = !text;
}

// The list: cards are kept and changed in place, so that focus and an open form survive.
export class Board {
  constructor(onAction) {
    this.list = byId('posts');
    this.cards = new Map();
    this.onAction = onAction;
    this.list.addEventListener('click', (event) => this.#clicked(event));
    setInterval(() => this.#refreshTimes(), 20_000);
  }

  get(id) {
    return this.cards.get(id);
  }

  // Shows exactly these posts; unless `quiet`, what is new or different flashes, and is told.
  replace(posts, { quiet = false } = {}) {
    const kept = new Set(posts.map((post) => post.id));
    const told = [];
    for (const id of [...this.cards.keys()]) {
      if (kept.has(id)) continue;
      told.push(`${this.cards.get(id).post.title}: left the list`);
      this.remove(id);
    }
    for (const post of posts) {
      const old = this.cards.get(post.id)?.post;
      if (old && JSON.stringify(old) === JSON.stringify(post)) continue;
      this.#put(post, quiet ? null : old ? 'update' : 'enter');
      told.push(`${post.title}: ${old ? 'changed' : 'new in the list'}`);
    }
    this.#counted();
    return quiet ? null : told.at(-1);
  }

  #put(post, way) {
    const card = this.cards.get(post.id) ?? this.#add(post.id);
    card.post = post;
    if ('gone' in card.element.dataset) showProblem(card.problem, null);
    delete card.element.dataset.gone;
    fill(card.element, post);
    if (way) flash(card.element, way);
  }

  // A post that is being edited stays until its form is closed; then `settle` takes it away.
  remove(id) {
    const card = this.cards.get(id);
    if (!card) return;
    if (card.form) {
      card.element.dataset.gone = '';
      showProblem(card.problem, 'This post has left the list.');
      return;
    }
    this.cards.delete(id);
    this.#moveFocus(card.element);
    card.element.inert = true;
    flash(card.element, 'leave');
    setTimeout(() => card.element.remove(), LEAVING);
    this.#counted();
  }

  settle(id) {
    const card = this.cards.get(id);
    if (card && 'gone' in card.element.dataset) this.remove(id);
  }

  clear() {
    this.cards.clear();
    this.list.replaceChildren();
    this.#counted();
  }

  #add(id) {
    const element = stamped('post');
    element.dataset.id = id;
    const card = { element, post: null, form: null, problem: element.querySelector('.problem') };
    this.cards.set(id, card);
    const older = [...this.list.children].find((other) => Number(other.dataset.id) < Number(id));
    this.list.insertBefore(element, older ?? null);
    return card;
  }

  #clicked(event) {
    const button = event.target.closest('article > .actions > button');
    const card = this.cards.get(button?.closest('.card').dataset.id);
    if (card) this.onAction(button.dataset.action, card);
  }

  #moveFocus(element) {
    if (!element.contains(document.activeElement)) return;
    const next = element.nextElementSibling ?? element.previousElementSibling;
    (next?.querySelector('.title') ?? this.list).focus({ preventScroll: true });
  }

  #counted() {
    const { size } = this.cards;
    byId('count').textContent = size === 1 ? '1 post' : `${size} posts`;
    byId('empty').hidden = size > 0;
  }

  #refreshTimes() {
    for (const { element, post } of this.cards.values()) showTime(element.querySelector('time'), post);
  }
}

function fill(element, post) {
  const part = (name) => element.querySelector(`.${name}`);
  part('title').textContent = post.title;
  part('content').textContent = post.content ?? '';
  part('content').hidden = !post.content;
  part('author').textContent = post.author;
  part('workspace').textContent = post.workspace_id;
  part('views').textContent = post.view_count === 1 ? '1 view' : `${post.view_count} views`;
  part('status').textContent = post.status;
  part('status').dataset.status = post.status;
  element.querySelector('[data-action="delete"]').hidden = !post.mayDelete;
  const publish = element.querySelector('[data-action="publish"]');
  publish.textContent = post.status === 'published' ? 'Unpublish' : 'Publish';
  for (const button of element.querySelectorAll('article > .actions button')) {
    button.setAttribute('aria-label', `${button.textContent}: ${post.title}`);
  }
  showTime(element.querySelector('time'), post);
}

function showTime(element, { published_at: moment }) {
  element.textContent = moment ? ago(new Date(moment)) : 'not published';
  element.dateTime = moment ?? '';
  element.title = moment ? exact.format(new Date(moment)) : '';
}

function ago(date) {
  const minutes = Math.round((date - Date.now()) / 60_000);
  if (minutes > -1) return 'just now';
  if (minutes > -60) return relative.format(minutes, 'minute');
  if (minutes > -1440) return relative.format(Math.round(minutes / 60), 'hour');
  return relative.format(Math.round(minutes / 1440), 'day');
}

function flash(element, way) {
  delete element.dataset.flash;
  void element.offsetWidth; // lets the same animation begin anew
  element.dataset.flash = way;
}

// The log of raw notifications, newest first.
export class Log {
  constructor() {
    this.list = byId('log');
  }

  add(way, notification) {
    const element = stamped('entry');
    const raw = JSON.stringify(notification);
    const moment = new Date(notification.meta?.timestamp ?? Date.now());
    const badge = element.querySelector('.way');
    badge.textContent = way;
    badge.dataset.way = way;
    element.querySelector('time').textContent = clock.format(moment);
    element.querySelector('time').dateTime = moment.toISOString();
    element.querySelector('.size').textContent = `${new TextEncoder().encode(raw).length} bytes`;
    element.querySelector('code').append(...breakable(raw));
    this.list.prepend(element);
    while (this.list.children.length > MAX_ENTRIES) this.list.lastElementChild.remove();
    byId('log-empty').hidden = true;
  }

  clear() {
    this.list.replaceChildren();
    byId('log-empty').hidden = false;
  }
}

// The text itself, with places where a line may end.
function breakable(json) {
  return json.split(/(?<=,)/).flatMap((part) => [part, document.createElement('wbr')]);
}

export function showState(status) {
  const state = status in STATES ? status : 'away';
  const pill = byId('connection');
  pill.dataset.state = state;
  pill.textContent = STATES[state];
}

export function showSubscription(id) {
  byId('subscription').textContent = id ?? 'none';
}

export function showSubscribed(payload) {
  byId('subscribed').replaceChildren(...breakable(JSON.stringify(payload)));
}

// The last requests, newest first.
export class Requests {
  constructor() {
    this.list = byId('requests');
    this.lines = new Map();
    this.clear();
  }

  add(request) {
    const line = document.createElement('li');
    const status = textElement('span', '…', 'code');
    const path = textElement('code', '');
    path.append(textElement('b', request.method), ` ${request.path}`);
    if (request.body) path.append(` ${request.body}`);
    line.append(path, status);
    this.lines.set(request, status);
    this.list.prepend(line);
    while (this.list.children.length > MAX_REQUESTS) this.list.lastElementChild.remove();
    this.count += 1;
    this.#counted();
  }

  answered(request) {
    const status = this.lines.get(request);
    this.lines.delete(request);
    if (!status) return;
    status.textContent = request.status || 'no answer';
    status.dataset.ok = request.status >= 200 && request.status < 300;
  }

  clear() {
    this.list.replaceChildren();
    this.lines.clear();
    this.count = 0;
    this.#counted();
  }

  #counted() {
    byId('count-requests').textContent = this.count === 1 ? '1 request' : `${this.count} requests`;
  }
}

export function showTrouble(text) {
  showProblem(byId('trouble'), text);
}

export function announce(text) {
  byId('announcer').textContent = text;
}

export function showUsers(users, me, onPick) {
  const choices = users.map((user) => userChoice(user, user.id === me.id, onPick));
  const holder = byId('users');
  holder.replaceChildren(holder.querySelector('legend'), ...choices);
}

function userChoice(user, isMe, onPick) {
  const label = document.createElement('label');
  const input = Object.assign(document.createElement('input'), {
    type: 'radio', name: 'user', value: user.id, checked: isMe,
  });
  input.addEventListener('change', () => onPick(user));
  const initial = textElement('span', user.name[0], 'initial');
  initial.ariaHidden = 'true';
  const where = textElement('small', user.admin ? 'admin' : user.workspace_id);
  label.append(input, initial, textElement('span', user.name, 'name'), where);
  return label;
}

export function showAuthors(users, chosen) {
  const options = users.map(({ id, name }) => new Option(name, id));
  const select = document.querySelector('#filters [name="author_id"]');
  select.replaceChildren(new Option('Anybody', ''), ...options);
  select.value = chosen ?? '';
}

function textElement(tag, text, className = '') {
  return Object.assign(document.createElement(tag), { textContent: text, className });
}
