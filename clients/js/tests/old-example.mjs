// The "whole client" that docs/realtime.md showed until version 0.1 of @tidings/client, kept to show
// that the schedules find what was wrong with it. `fetch` and the options of the socket are given.

import { io } from 'socket.io-client';

export class OldLiveList {
  constructor(url, token, path, subscription, changed, { fetch, ...options }) {
    Object.assign(this, { url, token, path, subscription, changed, fetch, records: new Map() });
    this.socket = io(url, { auth: { token }, forceNew: true, ...options });
    this.socket.on('connect', () => this.start());
    this.socket.on('subscription.update', (notification) => this.follow(notification));
  }

  // A new socket has no subscriptions: subscribe, then fetch, so that nothing falls between.
  start() {
    this.socket.emit('subscribe', this.subscription, async ({ error }) => {
      if (error) throw new Error(`${error.code}: ${error.message}`);
      const document = await this.get(this.path);
      this.records = new Map(document.data.map((record) => [record.id, record]));
      this.changed(this.records);
    });
  }

  async follow({ resource, id, meta }) {
    const document = meta.change === 'leave' ? null : await this.get(`/api/${resource}/${id}`);
    if (document) this.records.set(id, document.data);
    else this.records.delete(id);
    this.changed(this.records);
  }

  async get(path) {
    const response = await this.fetch(this.url + path, { headers: { Authorization: `Bearer ${this.token}` } });
    return response.ok ? response.json() : null; // 404: it is gone already
  }
}
