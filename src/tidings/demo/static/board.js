// The board: notifications say that something has changed, REST says what there is now.

import { openEditor } from '/static/editor.js';
import { Live } from '/static/live.js';
import { Rest } from '/static/rest.js';
import {
  announce, Board, Log, showAuthors, showProblem, showRefetches, showState, showSubscription,
  showTrouble, showUsers,
} from '/static/view.js';

const COALESCE = 60;
const MANY = 5;
const TYPING = 250;
const FILTERS = ['status', 'author_id', 'min_views', 'search'];

const filterForm = document.getElementById('filters');
const createDialog = document.getElementById('create');
const board = new Board((action, card) => actions[action](card));
const log = new Log();

let users = [];
let session = null;

// Everything that belongs to one signed-in user; a new one begins afresh.
class Session {
  constructor(user) {
    this.user = user;
    this.refetches = { list: 0, item: 0 };
    this.pending = new Map();
    this.newest = new Map();
    this.loading = 0;
    this.rest = new Rest(user.token, (what) => this.#refetched(what));
    this.live = new Live((options) => this.#token(options), {
      state: showState,
      subscribed: (id) => this.#subscribed(id),
      update: (notification) => this.#notified(notification),
      resync: (notification) => this.#resync(notification),
      refused: (error) => showTrouble(`The subscription was refused: ${error.message}`),
    });
  }

  watch() {
    this.filters = readFilters(this.user);
    this.subscription = null;
    showSubscription(null);
    this.live.watch({ resource: 'posts', filters: this.filters, include: ['author'] });
  }

  close() {
    clearTimeout(this.timer);
    this.loading = Infinity; // whatever is still on its way finds nobody at home
    this.live.close();
  }

  async #token({ renew }) {
    if (renew) {
      users = await fetchUsers().catch(() => users);
      this.user = users.find(({ id }) => id === this.user.id) ?? this.user;
      this.rest.token = this.user.token;
    }
    return this.user.token;
  }

  #refetched(what) {
    this.refetches[what] += 1;
    showRefetches(this.refetches);
  }

  #subscribed(id) {
    this.subscription = id;
    showSubscription(id);
    this.#loadList();
  }

  #resync(notification) {
    log.add('resync', notification);
    this.#loadList();
  }

  #notified(notification) {
    const { id, meta, subscriptionId } = notification;
    log.add(meta.change, notification);
    // What still comes for other filters is not for this list.
    if (subscriptionId !== this.subscription) return;
    this.newest.set(id, notification);
    this.pending.set(id, meta.change);
    this.#schedule();
  }

  #schedule() {
    clearTimeout(this.timer);
    // While a list is on its way, what came meanwhile waits: the list may be older.
    if (this.pending.size && !this.loading) this.timer = setTimeout(() => this.#flush(), COALESCE);
  }

  #flush() {
    const ways = this.pending;
    this.pending = new Map();
    const present = [...ways].filter(([, way]) => way !== 'leave');
    for (const [id, way] of ways) if (way === 'leave') this.#leave(id);
    if (present.length > MANY) this.#loadList(ways);
    else for (const [id, way] of present) this.#loadItem(id, way);
  }

  async #loadList(ways) {
    const { filters } = this;
    this.loading += 1;
    try {
      const posts = await this.rest.list(filters);
      if (this === session && filters === this.filters) {
        board.replace(posts, ways);
        showTrouble(null);
      }
    } catch (error) {
      if (this === session) showTrouble(error.message);
    } finally {
      this.loading -= 1;
      this.#schedule();
    }
  }

  async #loadItem(id, way) {
    const { filters } = this;
    const cause = this.newest.get(id);
    const isCurrent = () =>
      this === session && filters === this.filters && cause === this.newest.get(id);
    try {
      const post = await this.rest.item(id);
      if (!isCurrent()) return;
      board.put(post, way);
      announce(`${post.title}: ${way === 'enter' ? 'new in the list' : 'changed'}`);
    } catch (error) {
      // It may have gone since; what we may not read is gone for us.
      if (isCurrent() && [403, 404].includes(error.status)) board.remove(id);
    }
  }

  #leave(id) {
    const card = board.get(id);
    if (card) announce(`${card.post.title}: left the list`);
    board.remove(id);
  }
}

const actions = {
  edit: (card) => editCard(card),
  publish: (card) =>
    attempt(card, { status: card.post.status === 'published' ? 'draft' : 'published' }),
  views: (card) => attempt(card, { view_count: card.post.view_count + 10 }),
  delete: (card) => guarded(card, () => session.rest.remove(card.post.id)),
};

function attempt(card, changes) {
  return guarded(card, () => session.rest.update(card.post.id, changes));
}

// The page changes nothing itself: the notification of its own write tells it to, like others'.
async function guarded(card, work) {
  showProblem(card.problem, null);
  try {
    await work();
  } catch (error) {
    showProblem(card.problem, error.message);
  }
}

function editCard(card) {
  if (card.form) {
    card.form.elements.title.focus();
    return;
  }
  const { id } = card.post;
  card.form = openEditor(card.element.querySelector('article'), {
    values: card.post,
    save: ({ title, content, status }) => session.rest.update(id, { title, content, status }),
    close: () => {
      if (!card.form) return;
      card.form.remove();
      card.form = null;
      showProblem(card.problem, null);
      card.element.querySelector('[data-action="edit"]').focus();
      board.settle(id);
    },
  });
}

function createPost() {
  if (createDialog.open) return;
  const { user } = session;
  createDialog.showModal();
  openEditor(createDialog, {
    values: { workspace_id: user.workspace_id },
    withWorkspace: user.admin,
    save: (values) => session.rest.create({ ...values, author_id: user.id }),
    close: () => createDialog.close(),
  });
}

function readFilters(user) {
  const filters = user.admin ? {} : { workspace_id: user.workspace_id };
  for (const name of FILTERS) {
    const value = filterForm.elements[name].value.trim();
    if (value) filters[name] = value;
  }
  return filters;
}

function signIn(user) {
  session?.close();
  board.clear();
  log.clear();
  showTrouble(null);
  showState('connecting');
  showRefetches({ list: 0, item: 0 });
  const colleagues = users.filter((other) => user.admin || other.workspace_id === user.workspace_id);
  const author = filterForm.elements.author_id.value;
  showAuthors(colleagues, colleagues.some(({ id }) => id === author) ? author : '');
  document.title = `${user.name} · tidings`;
  history.replaceState(null, '', `?user=${encodeURIComponent(user.id)}`);
  const other = users.find(({ id, workspace_id: its }) => id !== user.id && its === user.workspace_id);
  document.getElementById('second').href = `/?user=${encodeURIComponent((other ?? users[0]).id)}`;
  session = new Session(user);
  session.watch();
}

async function fetchUsers() {
  const response = await fetch('/demo/users');
  if (!response.ok) throw new Error(`The server answered ${response.status}.`);
  return response.json();
}

function listen() {
  let timer;
  const refilter = (delay) => {
    clearTimeout(timer);
    timer = setTimeout(() => session.watch(), delay);
  };
  filterForm.addEventListener('submit', (event) => event.preventDefault());
  filterForm.addEventListener('input', ({ target }) => {
    refilter(target instanceof HTMLInputElement ? TYPING : 0);
  });
  filterForm.addEventListener('reset', () => refilter(0)); // the fields are empty only after it
  document.getElementById('new').addEventListener('click', createPost);
  createDialog.addEventListener('close', () => createDialog.querySelector('form')?.remove());
}

async function start() {
  try {
    users = await fetchUsers();
  } catch (error) {
    showTrouble(`The board could not be opened: ${error.message}`);
    return;
  }
  const asked = new URLSearchParams(location.search).get('user');
  const me = users.find(({ id }) => id === asked) ?? users[0];
  showUsers(users, me, (user) => signIn(users.find(({ id }) => id === user.id)));
  listen();
  signIn(me);
}

start();
