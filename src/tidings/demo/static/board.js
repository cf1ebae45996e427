// One side of the demo: somebody's board, and what goes over their wire.

import { openEditor } from '/static/editor.js';
import { Posts } from '/static/posts.js';
import {
  announce, Board, Log, Requests, showAuthors, showProblem, showState, showSubscribed, showSubscription,
  showTrouble, showUsers,
} from '/static/view.js';

const TYPING = 250;
const FILTERS = ['status', 'author_id', 'min_views', 'search'];

const filterForm = document.getElementById('filters');
const createDialog = document.getElementById('create');
const board = new Board((action, card) => actions[action](card));
const log = new Log();
const requests = new Requests();

let users = [];
let session = null;

// Everything that belongs to one signed-in user; a new one begins afresh.
class Session {
  constructor(user) {
    this.user = user;
    this.posts = new Posts({
      token: (wanted) => this.#token(wanted),
      fetch: window.tappedFetch,
      changed: (snapshot, filters) => this.#show(snapshot, filters),
      status: showState,
    });
  }

  watch() {
    this.filters = readFilters(this.user);
    this.isShown = false;
    this.posts.watch(this.filters);
  }

  close() {
    this.filters = null; // whatever is still on its way finds nobody at home
    this.posts.close();
  }

  async #token({ renew }) {
    if (renew) {
      users = await fetchUsers().catch(() => users);
      this.user = users.find(({ id }) => id === this.user.id) ?? this.user;
    }
    return this.user.token;
  }

  #show({ data, included, status, error }, filters) {
    if (filters !== this.filters) return;
    showTrouble(error && !(error.status === 0 && !error.code) ? error.message : null);
    if (status === 'loading') return;
    const told = board.replace(data.map((record) => flattened(record, included)), { quiet: !this.isShown });
    if (told) announce(told);
    this.isShown = true;
  }

  // The server decides; what it would refuse is not offered.
  mayDelete(post) {
    return this.user.admin || String(post.author_id) === this.user.id;
  }
}

const actions = {
  edit: (card) => editCard(card),
  publish: (card) =>
    attempt(card, { status: card.post.status === 'published' ? 'draft' : 'published' }),
  views: (card) => attempt(card, { view_count: card.post.view_count + 10 }),
  delete: (card) => guarded(card, () => session.posts.remove(card.post.id)),
};

function attempt(card, changes) {
  return guarded(card, () => session.posts.update(card.post.id, changes));
}

async function guarded(card, work) {
  showProblem(card.problem, null);
  try {
    await work();
  } catch (error) {
    showProblem(card.problem, error.message);
  }
}

function flattened({ id, attributes, relationships }, included) {
  const link = relationships.author.data;
  const author = included.find((one) => one.type === link.type && one.id === link.id);
  const post = { id, ...attributes, author: author?.attributes.name ?? 'Somebody' };
  return { ...post, mayDelete: session.mayDelete({ ...post, author_id: link.id }) };
}

function editCard(card) {
  if (card.form) {
    card.form.elements.title.focus();
    return;
  }
  const { id } = card.post;
  card.form = openEditor(card.element.querySelector('article'), {
    values: card.post,
    save: ({ title, content, status }) => session.posts.update(id, { title, content, status }),
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
    save: (values) => session.posts.create({ ...values, author_id: user.id }),
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
  requests.clear();
  showTrouble(null);
  showSubscription(null);
  showState('connecting');
  const colleagues = users.filter((other) => user.admin || other.workspace_id === user.workspace_id);
  const author = filterForm.elements.author_id.value;
  showAuthors(colleagues, colleagues.some(({ id }) => id === author) ? author : '');
  document.title = `${user.name} · tidings`;
  history.replaceState(null, '', `?user=${encodeURIComponent(user.id)}`);
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

function listenIn() {
  document.addEventListener('wire:asked', ({ detail }) => requests.add(detail));
  document.addEventListener('wire:answered', ({ detail }) => requests.answered(detail));
  document.addEventListener('wire:said', ({ detail: { name, payload } }) => {
    if (name === 'subscribe') showSubscribed(payload);
  });
  document.addEventListener('wire:told', ({ detail: { name, payload } }) => {
    if (name === 'subscription.update') log.add(payload.meta.change, payload);
    else if (name === 'subscription.resync') log.add('resync', payload);
    else if (name === 'subscription.created') showSubscription(payload.subscriptionId);
  });
}

async function start() {
  document.documentElement.classList.toggle('pane', window.parent !== window);
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
  listenIn();
  signIn(me);
}

start();
