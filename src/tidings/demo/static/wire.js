// Listens in on this page's own line, so that it can show what goes over it: nothing here is needed
// to use tidings. It runs before tidings.min.js and tells with an event of the document.

(() => {
  const tell = (name, detail) => document.dispatchEvent(new CustomEvent(`wire:${name}`, { detail }));

  // A Socket.IO packet with an event ("42", maybe an ack's number, the array) or an ack ("43").
  const read = (data) => {
    const [, kind, , json] = /^4([23])(\d*)(\[.*)$/s.exec(typeof data === 'string' ? data : '') ?? [];
    if (!json) return null;
    const values = JSON.parse(json);
    return kind === '2' ? { name: values[0], payload: values[1] } : { name: 'ack', payload: values[0] };
  };

  window.WebSocket = class extends WebSocket {
    constructor(...given) {
      super(...given);
      this.addEventListener('message', ({ data }) => {
        const packet = read(data);
        if (packet) tell('told', packet);
      });
    }

    send(data) {
      const packet = read(data);
      if (packet) tell('said', packet);
      super.send(data);
    }
  };

  window.tappedFetch = async (address, options = {}) => {
    const { pathname, search } = new URL(address, location.href);
    const request = {
      method: options.method ?? 'GET',
      path: decodeURIComponent((pathname + search).replaceAll('+', ' ')),
      body: options.body ?? null,
      status: null,
    };
    tell('asked', request);
    try {
      const response = await fetch(address, options);
      tell('answered', Object.assign(request, { status: response.status }));
      return response;
    } catch (error) {
      tell('answered', Object.assign(request, { status: 0 }));
      throw error;
    }
  };
})();
