export { createClient } from './client.js';
export * from './guide.js';
export { TidingsError, type ErrorObject } from './http.js';
export type * from './types.js';
