// SPDX-License-Identifier: Apache-2.0
//
// client.mjs PORT RESP - the Node client of Redis, as it comes from npm, against presenced: what it sends by itself, a
// pipeline, maps, ids that do not fit a number, errors, and a watch. Tells stories as `ok N - name`.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import path from 'node:path';

// The package is installed in the build folder, where this is run, and not beside this file.
const { createClient } = createRequire(path.join(process.cwd(), 'here.js'))('@redis/client');

const [port, version] = process.argv.slice(2).map(Number);
const model = '2e15302a-bbdf-4077-8e65-116a5a0e0348';
const server = `node-resp${version}`;
let told = 0;
let failed = 0;

async function story(name, tell) {
  told++;
  try {
    await tell();
    console.log(`ok ${told} - ${name}, RESP${version}`);
  } catch (error) {
    failed++;
    console.log(`    ${error.stack}\nnot ok ${told} - ${name}, RESP${version}`);
  }
}

async function connected() {
  const client = createClient({
    socket: { host: '127.0.0.1', port, reconnectStrategy: false, connectTimeout: 30000 },
    name: 'story',
    RESP: version,
  });
  client.on('error', () => {});
  await client.connect();
  return client;
}

const alarm = setTimeout(() => {
  console.log(`not ok ${told + 1} - it never ended`);
  process.exit(1);
}, 60000);

const client = await connected();

await story('it connects, names itself and pings', async () => {
  assert.equal(await client.ping(), 'PONG');
  assert.equal(await client.clientGetName(), 'story');
  assert.match(await client.sendCommand(['CLIENT', 'INFO']), /lib-name=node-redis/);
});

await story('commands sent together are answered in order', async () => {
  const sent = [];
  for (let id = 1; id <= 1000; id++) {
    sent.push(client.sendCommand(['PRESENCE.CONNECT', server, model, `unit-${id}`, String(id)]));
  }
  assert.deepEqual(await Promise.all(sent), Array(1000).fill(1));
  assert.deepEqual(await client.sendCommand(['PRESENCE.STATUS', model, 'unit-1', 'unit-1001']), ['alive', 'unknown']);
  assert.equal(await client.sendCommand(['PRESENCE.COUNT', 'SERVER', server]), 1000);
});

await story('an agent is a map', async () => {
  const reply = await client.sendCommand(['PRESENCE.AGENT', model, 'unit-7']);
  const agent = version === 3 ? { ...reply } : Object.fromEntries(
    Array.from({ length: reply.length / 2 }, (_, i) => [reply[2 * i], reply[2 * i + 1]]));
  assert.equal(agent.status, 'alive');
  assert.equal(agent.reason, 'connected');
  assert.equal(typeof agent.since, 'number');
});

await story('the largest id survives', async () => {
  const largest = '18446744073709551615';
  await client.sendCommand(['PRESENCE.CONNECT', server, model, 'large', largest]);
  const [, values] = await client.sendCommand(['PRESENCE.VALUES', 'MODEL', model, 'AGENT', 'large'])
    .then((reply) => (Array.isArray(reply) ? reply : Object.values(reply)));
  assert.ok(JSON.stringify(values).includes(`"${largest}"`), JSON.stringify(values));
});

await story('an error is an exception that begins with its word', async () => {
  await assert.rejects(client.sendCommand(['PRESENCE.CONNECT', '', model, 'a', '1']), /^Error: INVALID server is empty/);
  assert.equal(await client.ping(), 'PONG');
});

await story('it says goodbye', async () => {
  await client.close();
});

clearTimeout(alarm);
process.exit(failed ? 1 : 0);
