// The Socket.IO side: one subscription at a time, kept over reconnections as in the guide.

const ANSWER_WITHIN = 5000;
const TRY_AGAIN_AFTER = 1000;

export class Live {
  // `getToken({ renew })` gives the token to sign in with; `handlers` are state, subscribed,
  // update, resync and refused.
  constructor(getToken, handlers) {
    this.handlers = handlers;
    this.wanted = null;
    this.current = null;
    this.subscriptions = new Map();
    this.turn = Promise.resolve();
    this.renew = false;
    this.socket = window.io({
      auth: (give) => getToken({ renew: this.renew }).then((token) => give({ token })),
      reconnectionDelay: 300,
      reconnectionDelayMax: 2000,
      forceNew: true,
    });
    this.#listen();
  }

  // Watches something else from now on; what was watched before is given up.
  watch(request) {
    this.wanted = request;
    this.#inTurn(() => this.#replace());
  }

  close() {
    clearTimeout(this.retry);
    this.socket.off();
    this.socket.disconnect();
  }

  #listen() {
    const { socket, handlers } = this;
    socket.on('connect', () => {
      this.renew = false;
      handlers.state('live');
      this.#inTurn(() => this.#restore());
    });
    socket.on('disconnect', () => handlers.state('away'));
    socket.on('connect_error', () => this.#refused());
    socket.on('subscription.created', (data) => this.subscriptions.set(data.subscriptionId, data));
    socket.on('subscription.update', (told) => {
      this.#remember(told.subscriptionId, told.meta.cursor);
      handlers.update(told);
    });
    socket.on('subscription.resync', (told) => {
      this.#remember(told.subscriptionId, told.cursor);
      handlers.resync(told);
    });
  }

  // A server that cannot be reached is tried again by the library; one that refused the token
  // (it was restarted, or the token has expired) gets a new one.
  #refused() {
    this.handlers.state('away');
    if (this.socket.active) return;
    this.renew = true;
    this.retry = setTimeout(() => this.socket.connect(), TRY_AGAIN_AFTER);
  }

  #remember(id, cursor) {
    const known = this.subscriptions.get(id);
    if (known && cursor) this.subscriptions.set(id, { ...known, cursor });
  }

  // One request at a time, so that a quick change of filters cannot overtake itself. What the
  // connection's end cuts off is made good by the next `connect`.
  #inTurn(work) {
    this.turn = this.turn.then(() => (this.socket.connected ? work() : null)).catch(() => null);
  }

  async #restore() {
    if (this.subscriptions.size > 0) {
      const subscriptions = [...this.subscriptions.values()];
      const answer = await this.#ask('restore-subscriptions', { subscriptions });
      for (const { subscriptionId } of answer.failed ?? []) this.subscriptions.delete(subscriptionId);
    }
    await this.#replace();
  }

  async #replace() {
    const request = this.wanted;
    if (!request) return;
    if (!this.#isActive(request)) {
      for (const id of [...this.subscriptions.keys()]) await this.#drop(id);
      const answer = await this.#ask('subscribe', request);
      if (answer.error) {
        this.current = null;
        this.handlers.refused(answer.error);
        return;
      }
      this.current = { request, id: answer.data.subscriptionId };
      this.subscriptions.set(this.current.id, answer.data);
    }
    if (request === this.wanted) this.handlers.subscribed(this.current.id);
  }

  #isActive(request) {
    return this.current?.request === request && this.subscriptions.has(this.current.id);
  }

  async #drop(subscriptionId) {
    await this.#ask('unsubscribe', { subscriptionId });
    this.subscriptions.delete(subscriptionId);
  }

  #ask(event, payload) {
    return this.socket.timeout(ANSWER_WITHIN).emitWithAck(event, payload);
  }
}
