import type { ClientOptions, ListOptions } from './types.js';

const MEDIA_TYPE = 'application/vnd.api+json';
const PATIENCE = 30_000;

/** An error object, of JSON:API or of a socket's answer. */
export interface ErrorObject {
  code?: string;
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
    super(first?.detail ?? first?.message ?? `The server answered ${status}`);
  }

  /** The first error's code, such as `PERMISSION_DENIED`. */
  get code(): string | undefined {
    return this.errors[0]?.code;
  }
}

/** Whether asking again cannot help. Of no status of HTTP's (408, 429, 5xx, none) this is certain. */
export const isFinal = (error: unknown): boolean => /^4(?!08|29)/.test(`${(error as TidingsError).status}`);

export type Http = ReturnType<typeof createHttp>;

/** The HTTP side of a client: tokens, requests, errors. */
export function createHttp({ url = '', prefix = '/api', token, ...options }: ClientOptions) {
  let held: Promise<string | null | undefined> | undefined;

  /** The token, asked for once, and again when it is to be renewed. */
  const tokenFor = (renew: boolean) => {
    if (!held || renew) {
      held = Promise.resolve({ renew }).then(typeof token === 'function' ? token : () => token);
      held.catch(() => (held = undefined));
    }
    return held;
  };

  const send = async (method: string, path: string, body: unknown, renewed?: boolean): Promise<any> => {
    const mine = tokenFor(false);
    const bearer = await mine;
    const headers: Record<string, string> = { accept: MEDIA_TYPE };
    if (bearer) headers.authorization = `Bearer ${bearer}`;
    if (body) headers['content-type'] = MEDIA_TYPE;
    const response = await (options.fetch ?? fetch)(url + prefix + path, {
      method,
      headers,
      body: body ? JSON.stringify(body) : null,
      signal: AbortSignal.timeout(PATIENCE),
    });
    const { status, ok } = response;
    if (status === 401 && !renewed) {
      // Of many requests that are refused at once, one renews the token for all.
      await tokenFor(held === mine);
      return send(method, path, body, true);
    }
    const document = status === 204 ? undefined : await response.json().catch(() => null);
    if (ok) return document;
    throw new TidingsError(status, document?.errors ?? [], +response.headers.get('retry-after')! || 0);
  };

  return {
    tokenFor,
    /** The answer's document; `undefined` for 204. Whatever goes wrong is a `TidingsError`. */
    request: (method: string, path: string, body?: unknown): Promise<any> =>
      send(method, path, body).catch((error) => {
        throw error instanceof TidingsError
          ? error
          : new TidingsError(0, [{ message: `No answer from the server: ${error}` }]);
      }),
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
  const query = new URLSearchParams(more as Record<string, string>);
  for (const [name, value] of Object.entries(filters)) {
    if (value === null) query.set(`filter[${name}][null]`, 'true');
    else query.set(`filter[${name}]`, typeof value === 'string' ? value : JSON.stringify(value));
  }
  for (const [name, value] of Object.entries(fields)) query.set(`fields[${name}]`, `${value}`);
  if (include.length) query.set('include', `${include}`);
  return `?${query}`;
}
