// The recipes of docs/clients.md, each written into a file that can be imported or bundled.

import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const page = readFileSync(`${root}../../docs/clients.md`, 'utf8');
const RECIPE = /<!-- recipe: ([\w-]+) -->\n```(\w+)\n(.*?)^```$/gms;

/** The folder that they are in, within the package so that its own name can be imported. */
export const folder = (name) => `${root}.recipes/${name}/`;

export const recipes = Object.fromEntries(
  [...page.matchAll(RECIPE)].map(([, name, language, code]) => [name, { language, code }]),
);

/** Writes a recipe, and `client.js` beside it. */
export function write(name, clientCode) {
  const { language, code } = recipes[name];
  const place = folder(name);
  rmSync(place, { recursive: true, force: true });
  mkdirSync(place, { recursive: true });
  writeFileSync(`${place}client.js`, clientCode);
  writeFileSync(`${place}recipe.${language}`, code);
  return `${place}recipe.${language}`;
}

export const clean = (name) => rmSync(folder(name), { recursive: true, force: true });
