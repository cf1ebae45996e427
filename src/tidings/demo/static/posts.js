// The client of this page, whole: a list of posts that follows the server, and how to write to it.
// `tidings` is @tidings/client (one script file, tidings.min.js). See docs/clients.md.

export class Posts {
  // `token({ renew })` gives the token; `changed` gets what the list shows, again and again.
  constructor({ token, fetch, changed, status }) {
    this.client = tidings.createClient({ token, fetch, linger: 0 });
    this.client.onStatus(status);
    this.changed = changed;
  }

  // Follows the posts that pass these filters, instead of those that it followed before.
  watch(filters) {
    const list = this.client.live('posts', { filters, include: ['author'], sort: ['-id'] });
    const leave = list.subscribe(() => this.changed(list.getSnapshot(), filters));
    this.leave?.();
    this.leave = leave;
    this.changed(list.getSnapshot(), filters);
  }

  // A write needs nothing more: the list shows it, here and wherever else it is watched.
  create(attributes) {
    return this.client.create('posts', attributes);
  }

  update(id, attributes) {
    return this.client.update('posts', id, attributes);
  }

  remove(id) {
    return this.client.remove('posts', id);
  }

  close() {
    this.leave?.();
    this.client.close();
  }
}
