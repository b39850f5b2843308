// SPDX-License-Identifier: Apache-2.0
//
// screenshot.js PRESENCED PICTURE [light|dark|phone] - the dashboard's picture for the README, of a small fleet in the
// middle of its day: gateways, some hundreds of agents, one gateway that has just gone.
'use strict';

const { Daemon, Feeder, findBrowser, launch, sleep, until } = require('./stage');

const models = ['2e15302a-bbdf-4077-8e65-116a5a0e0348', '7c3f9b10-4d2e-4f6a-9a51-0d2c8e7b6f31', 'c94c1de2-63f5-4b0b-8ad8-5a7f1b2e9d40'];
const units = ['mysql', 'postgresql', 'haproxy', 'grafana', 'kafka', 'redis', 'vault', 'nginx', 'etcd', 'prometheus'];

const stated = [];

async function state(feeder, ...words) {
  stated.push(words);
  return feeder.send('PRESENCE.CONNECT', ...words);
}

/* The gateway's link is back: it says again who is connected to it. */
async function comeBack(feeder, server) {
  await Promise.all(stated.filter((words) => words[0] === server).map((words) => feeder.send('PRESENCE.CONNECT', ...words)));
}

async function fill(feeder) {
  let id = 0;
  const sent = [];
  models.forEach((model, at) => {
    for (let machine = 0; machine < 64 - 20 * at; machine++) {
      const server = `gateway-${'abcde'[(machine + at) % 5]}`;
      sent.push(state(feeder, server, model, `machine-${machine}`, ++id));
      for (let unit = 0; unit < 3; unit++)
        sent.push(state(feeder, server, model, `unit-${units[(machine + unit) % units.length]}-${machine % 12}`, ++id,
          'DATA', `zone=${1 + machine % 3}`));
    }
  });
  await Promise.all(sent);
}

/* A minute of what goes on while the chart is drawn: some come, some go, a gateway is lost and returns, another is lost. */
async function live(feeder, page) {
  for (let step = 0; step < 104; step++) {
    await feeder.send('PRESENCE.CONNECT', 'gateway-b', models[0], `unit-worker-${step}`, 9000 + step);
    if (step % 3 === 2) await feeder.send('PRESENCE.DISCONNECT', 'gateway-b', 9000 + step - 1);
    if (step === 40) await feeder.send('PRESENCE.SERVERDOWN', 'gateway-c');
    if (step === 62) await comeBack(feeder, 'gateway-c');
    if (step === 98) await feeder.send('PRESENCE.SERVERDOWN', 'gateway-d');
    await sleep(500);
  }
  await page.waitForTimeout(3000);
}

async function main(program, picture, look = 'light') {
  const found = findBrowser();
  if (found.reason) {
    console.log(`SKIP ${found.reason}`);
    return;
  }
  const daemon = await new Daemon(program).start();
  const browser = await launch(found);
  try {
    const feeder = new Feeder(daemon.resp);
    await fill(feeder);
    const page = await browser.newPage({ viewport: look === 'phone' ? { width: 390, height: 844 } : { width: 1440, height: 900 },
      deviceScaleFactor: look === 'phone' ? 2 : 1.5, colorScheme: look === 'dark' ? 'dark' : 'light' });
    await page.goto(daemon.url);
    await until('the agents are listed', () => page.locator('.row .agent').count());
    await live(feeder, page);
    await page.screenshot({ path: picture });
    console.log(`wrote ${picture}`);
    feeder.end();
  } finally {
    await browser.close();
    await daemon.stop();
    daemon.clean();
  }
}

main(...process.argv.slice(2)).catch((error) => {
  console.error(error);
  process.exit(1);
});
