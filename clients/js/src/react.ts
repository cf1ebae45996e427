import { createContext, createElement, useContext, useSyncExternalStore, type ReactNode } from 'react';

import type { AnySchema, Client, ListDocument, ListOptions, SchemaOf, Snapshot, Status } from './types.js';

const ClientContext = createContext<Client<any> | null>(null);

/** Gives a client to `useLive` and `useClient` below it. */
export function TidingsProvider(props: { client: Client<any>; children?: ReactNode }): ReactNode {
  return createElement(ClientContext.Provider, { value: props.client }, props.children);
}

/**
 * The client of the provider above.
 *
 * @throws Error where there is no provider.
 */
export function useClient<S extends SchemaOf<S> = AnySchema>(): Client<S> {
  const client = useContext(ClientContext);
  if (!client) throw new Error('There is no <TidingsProvider client={...}> above this component');
  return client;
}

const NOTHING: Snapshot<any> = { data: [], included: [], status: 'loading', error: undefined, isLive: false };
const idle = () => () => {};
const nothing = () => NOTHING;

/**
 * A list that follows the server for as long as a component shows it. `null` as the resource skips it.
 * Its options may be made anew at each rendering.
 *
 * @example
 * const { data, status } = useLive('posts', { filters: { status: 'published' } });
 */
export function useLive<S extends SchemaOf<S> = AnySchema, N extends keyof S & string = keyof S & string>(
  resource: N | null,
  options?: ListOptions<S[N]> & { initial?: ListDocument<S[N]> | undefined },
): Snapshot<S[N]> {
  const client = useClient<S>();
  const list = resource === null ? null : client.live(resource, options);
  return useSyncExternalStore(
    list ? list.subscribe : idle,
    list ? list.getSnapshot : nothing,
    list ? list.getSnapshot : nothing,
  );
}

/** The state of the connection. */
export function useStatus(): Status {
  const client = useClient<any>();
  const status = () => client.status;
  return useSyncExternalStore(client.onStatus, status, status);
}
