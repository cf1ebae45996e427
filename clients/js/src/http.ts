import type { ClientOptions, Filters, ListOptions } from './types.js';

const MEDIA_TYPE = 'application/vnd.api+json';
const PATIENCE = 30_000;

/** An error object, of JSON:API or of a socket's answer. */
export interface ErrorObject {
  code?: string;
  title?: string;
  detail?: string;
  message?: string;
  source?: { pointer?: string; parameter?: string; header?: string };
  details?: any;
}

/** A refusal by the server, or (`status` 0) no answer from it. */
export class TidingsError extends Error {
  override readonly name = 'TidingsError';

  constructor(
    /** The status of the HTTP answer. 0: there was none, or the socket was answered. */
    readonly status: number,
    /** The error objects of the answer. */
    readonly errors: readonly ErrorObject[],
    /** Seconds after which the server wants to be asked again. */
    readonly retryAfter = 0,
  ) {
    const [first] = errors;
    super(first?.detail ?? first?.message ?? first?.title ?? `The server answered ${status}`);
  }

  /** The first error's code, such as `PERMISSION_DENIED`. */
  get code(): string | undefined {
    return this.errors[0]?.code;
  }
}

/** Whether asking again cannot help. */
export const isFinal = ({ status }: TidingsError): boolean =>
  status >= 400 && status < 500 && status !== 408 && status !== 429;

export type Http = ReturnType<typeof createHttp>;

/** The HTTP side of a client: tokens, requests, errors. */
export function createHttp({ url = '', prefix = '/api', token, ...options }: ClientOptions) {
  let held: Promise<string | null> | undefined;

  /** The token, kept until it is found to be refused: `refused` then is the one that was. */
  const tokenFor = (renew: boolean): Promise<string | null> => {
    if (!held || renew) {
      const got = (held = (async () =>
        typeof token === 'function' ? token({ renew }) : (token ?? null))());
      got.catch(() => held === got && (held = undefined));
    }
    return held;
  };

  const send = async (method: string, path: string, body: unknown, renewed: boolean): Promise<any> => {
    const mine = tokenFor(false);
    const bearer = await mine;
    const headers: Record<string, string> = { accept: MEDIA_TYPE };
    if (bearer) headers.authorization = `Bearer ${bearer}`;
    const init: RequestInit = { method, headers, signal: AbortSignal.timeout(PATIENCE) };
    if (body) {
      headers['content-type'] = MEDIA_TYPE;
      init.body = JSON.stringify(body);
    }
    const response = await (options.fetch ?? fetch)(url + prefix + path, init);
    if (response.ok) return response.status === 204 ? undefined : response.json();
    if (response.status === 401 && !renewed && typeof token === 'function') {
      // Of many requests that are refused at once, one renews the token for all.
      await tokenFor(held === mine);
      return send(method, path, body, true);
    }
    const { errors = [] } = await response.json().catch(() => ({}));
    throw new TidingsError(response.status, errors, Number(response.headers.get('retry-after')) || 0);
  };

  return {
    tokenFor,
    /** The answer's document; `undefined` for 204. Whatever goes wrong is a `TidingsError`. */
    async request(method: string, path: string, body?: unknown): Promise<any> {
      try {
        return await send(method, path, body, false);
      } catch (error) {
        if (error instanceof TidingsError) throw error;
        throw new TidingsError(0, [{ detail: 'The server cannot be reached', message: String(error) }]);
      }
    },
  };
}

/** A value's JSON with the keys in order, so that equal values have equal texts. */
export const canonical = (value: unknown): string =>
  JSON.stringify(value, (_, inner) =>
    inner && typeof inner === 'object' && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  );

/** A list's query: what it selects, and some parameters more. */
export function queryOf(
  { filters = {}, include = [], fields = {} }: ListOptions,
  more: Record<string, string | number>,
): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(filters as Filters)) {
    if (value === null) query.set(`filter[${name}][null]`, 'true');
    else if (value !== undefined)
      query.set(`filter[${name}]`, typeof value === 'object' ? JSON.stringify(value) : String(value));
  }
  for (const [name, value] of Object.entries(fields)) query.set(`fields[${name}]`, value.join());
  if (include.length) query.set('include', include.join());
  for (const [name, value] of Object.entries(more)) query.set(name, String(value));
  return `?${query}`;
}
