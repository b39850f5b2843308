// SPDX-License-Identifier: Apache-2.0
//
// screenshot.js PRESENCED PICTURE [light|dark|phone] - the dashboard's picture for the README, of a small fleet in the
// middle of its day: gateways, some hundreds of agents, one gateway that has just gone.
'use strict';

const { Daemon, Feeder, findBrowser, launch, sleep, until } = require('./stage');

const models = ['2e15302a-bbdf-4077-8e65-116a5a0e0348', '7c3f9b10-4d2e-4f6a-9a51-0d2c8e7b6f31', 'c94c1de2-63f5-4b0b-8ad8-5a7f1b2e9d40'];
const units = ['mysql', 'postgresql', 'haproxy', 'grafana', 'kafka', 'redis', 'vault', 'nginx', 'etcd', 'prometheus'];

async function fill(feeder) {
  let id = 0;
  const sent = [];
  models.forEach((model, at) => {
    for (let machine = 0; machine < 64 - 20 * at; machine++) {
      const server = `gateway-${'abcde'[(machine + at) % 5]}`;
      sent.push(feeder.send('PRESENCE.CONNECT', server, model, `machine-${machine}`, ++id));
      for (let unit = 0; unit < 3; unit++)
        sent.push(feeder.send('PRESENCE.CONNECT', server, model, `unit-${units[(machine + unit) % units.length]}-${machine % 12}`, ++id,
          'DATA', `zone=${1 + machine % 3}`));
    }
  });
  await Promise.all(sent);
}

/* What goes on while the chart is drawn: some come, some go, a gateway is lost and returns. */
async function live(feeder, page) {
  for (let step = 0; step < 10; step++) {
    await feeder.send('PRESENCE.CONNECT', 'gateway-b', models[0], `unit-worker-${step}`, 9000 + step);
    if (step % 3 === 2) await feeder.send('PRESENCE.DISCONNECT', 'gateway-b', 9000 + step - 1);
    if (step === 4) await feeder.send('PRESENCE.SERVERDOWN', 'gateway-d');
    await sleep(500);
  }
  await page.waitForTimeout(1500);
}

/* The picture is made in seconds, so the minutes before are told to the page as it would have sampled them. */
function past(now) {
  const samples = [];
  for (let at = now - 600000; at < now - 8000; at += 5000) {
    const minute = (now - at) / 60000, wave = Math.round(9 * Math.sin(minute * 2.1) + 5 * Math.sin(minute * 5.3));
    const missing = minute < 7.2 && minute > 5.9 ? 101 : minute < 2.6 && minute > 2.1 ? 34 : 0;
    samples.push([at, 520 + wave - missing - Math.round(minute * 3), missing]);
  }
  return JSON.stringify(samples);
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
    await page.addInitScript((samples) => { if (!sessionStorage.getItem('samples')) sessionStorage.setItem('samples', samples); }, past(Date.now()));
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
