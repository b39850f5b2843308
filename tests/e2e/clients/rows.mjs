// SPDX-License-Identifier: Apache-2.0
//
// rows.mjs PORT - the Node client of Redis asks what it reads: a JSON array of words a line, on one connection, and
// writes each reply as a line of JSON; an error is {"error": text}. It says QUIT at the end.
import { createRequire } from 'node:module';
import path from 'node:path';
import readline from 'node:readline';

// The package is installed in the build folder, where this is run, and not beside this file.
const { createClient } = createRequire(path.join(process.cwd(), 'here.js'))('@redis/client');

const client = createClient({
  socket: { host: '127.0.0.1', port: Number(process.argv[2]), reconnectStrategy: false, connectTimeout: 30000 },
});
client.on('error', () => {});
await client.connect();
for await (const line of readline.createInterface({ input: process.stdin })) {
  const reply = await client.sendCommand(JSON.parse(line)).catch((error) => ({ error: error.message }));
  console.log(JSON.stringify(reply));
}
await client.sendCommand(['QUIT']);
client.destroy();
