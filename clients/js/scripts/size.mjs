// Says how much the client adds to a page, minified and compressed, and fails above the limits.
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';

import { build } from 'esbuild';

const root = fileURLToPath(new URL('..', import.meta.url));
const LIMITS = {
  'core (createClient)': [`import { createClient } from './dist/index.js'; globalThis.x = createClient`, 4608],
};

let failed = false;
for (const [name, [contents, limit]] of Object.entries(LIMITS)) {
  const { outputFiles } = await build({
    absWorkingDir: root,
    stdin: { contents, resolveDir: root },
    bundle: true,
    minify: true,
    format: 'esm',
    target: 'es2022',
    external: ['socket.io-client', 'react', 'react/jsx-runtime'],
    write: false,
    logLevel: 'error',
  });
  const size = gzipSync(outputFiles[0].contents, { level: 9 }).length;
  failed ||= size > limit;
  console.log(`${name}: ${size} bytes of at most ${limit}`);
}
process.exit(failed ? 1 : 0);
