// SPDX-License-Identifier: Apache-2.0
//
// test_dashboard.js PRESENCED - the dashboard as a person sees it, in Debian's Chromium against the real presenced.
'use strict';

const assert = require('node:assert');
const crypto = require('node:crypto');
const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const { Daemon, Feeder, findBrowser, launch, until } = require('./stage');

const model = '2e15302a-bbdf-4077-8e65-116a5a0e0348';
const other = '7c3f9b10-4d2e-4f6a-9a51-0d2c8e7b6f31';
const many = 100000;
let told = 0, failed = 0;

async function story(name, tell) {
  told++;
  try {
    await tell();
    console.log(`ok ${told} - ${name}`);
  } catch (error) {
    failed++;
    console.log(`not ok ${told} - ${name}\n${error.stack}`);
  }
}

/* A page on which nothing may go wrong unseen: errors, refused loads and foreign requests are remembered. */
async function open(browser, daemon, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  const page = await context.newPage();
  page.problems = [];
  page.on('pageerror', (error) => page.problems.push(String(error)));
  page.on('console', (message) => message.type() === 'error' && !/Failed to load resource|ERR_/.test(message.text()) && page.problems.push(message.text()));
  page.on('request', (request) => request.url().startsWith(daemon.url) || page.problems.push(`asked ${request.url()}`));
  await page.goto(daemon.url);
  await page.waitForSelector('#freshness.live');
  return page;
}

const row = (page, agent) => page.locator('.row:not([hidden])').filter({ has: page.locator('.agent', { hasText: new RegExp(`^${agent}$`) }) });
/* In one look, since a row may go between two. */
const status = (page, agent) => page.evaluate((name) => [...document.querySelectorAll('.row:not([hidden])')]
  .find((each) => each.querySelector('.agent').textContent === name)?.querySelector('.status').textContent ?? 'absent', agent);
const becomes = (page, agent, wanted) => until(`${agent} is ${wanted}`, async () => (await status(page, agent)) === wanted);

async function comesAndGoes(browser, daemon, feeder) {
  const page = await open(browser, daemon);
  await until('the page says that nobody is there', async () => /No agent/.test(await page.locator('#agents-note').innerText()));
  // An agent connects, and is there without a reload.
  await feeder.send('PRESENCE.CONNECT', 'machine-0', model, 'unit-mysql-0', 1, 'DATA', 'zone=1');
  await becomes(page, 'unit-mysql-0', 'alive');
  await until('the total', async () => (await page.locator('#total-alive').innerText()) === '1');
  await page.locator('#servers .name', { hasText: 'machine-0' }).waitFor();
  // Its server goes away.
  await feeder.send('PRESENCE.SERVERDOWN', 'machine-0');
  await becomes(page, 'unit-mysql-0', 'missing');
  assert.match(await row(page, 'unit-mysql-0').locator('.why').innerText(), /server down/);
  await page.locator('#servers .status.missing').waitFor();
  await until('the total', async () => (await page.locator('#total-missing').innerText()) === '1');
  // And comes back.
  await feeder.send('PRESENCE.CONNECT', 'machine-0', model, 'unit-mysql-0', 1, 'DATA', 'zone=1');
  await becomes(page, 'unit-mysql-0', 'alive');
  const events = await page.locator('#feed .kind').allInnerTexts();
  assert.deepStrictEqual(events, ['back', 'missing', 'alive']);
  // An agent that leaves is gone.
  await feeder.send('PRESENCE.DISCONNECT', 'machine-0', 1);
  await becomes(page, 'unit-mysql-0', 'absent');
  assert.deepStrictEqual(page.problems, []);
  await page.context().close();
}

async function staysText(browser, daemon, feeder) {
  const names = ['<script>document.title="broken"</script>', '<img src=x onerror=document.title="broken">', '"><b>bold</b>', '{{7*7}}'];
  const page = await open(browser, daemon);
  for (let i = 0; i < names.length; i++)
    await feeder.send('PRESENCE.CONNECT', names[i], model, names[i], 100 + i, 'DATA', names[i]);
  await until('all of them are listed', async () => (await page.locator('.row:not([hidden])').count()) === names.length);
  const shown = await page.locator('.row:not([hidden]) .agent').allInnerTexts();
  assert.deepStrictEqual(shown.sort(), [...names].sort());
  await until('the servers too', async () => (await page.locator('#servers .name').count()) >= names.length);
  await page.locator('.row:not([hidden]) .agent', { hasText: '<script>' }).click();
  await until('the details', async () => (await page.locator('#details-connections td').count()) === 5);
  assert.strictEqual(await page.locator('#details-title').innerText(), names[0]);
  assert.strictEqual(await page.locator('#details-connections td').last().innerText(), names[0]);
  assert.strictEqual(await page.locator('main script, main b:not(.chips b), main img, dialog script').count(), 0);
  assert.strictEqual(await page.title(), 'Presence');
  await page.keyboard.press('Escape');
  assert.deepStrictEqual(page.problems, []);
  for (let i = 0; i < names.length; i++) await feeder.send('PRESENCE.DISCONNECT', names[i], 100 + i);
  await page.context().close();
}

async function isUsedByKeyboard(browser, daemon, feeder) {
  for (let i = 0; i < 50; i++) await feeder.send('PRESENCE.CONNECT', 'machine-1', model, `unit-${String(i).padStart(2, '0')}`, 200 + i);
  const page = await open(browser, daemon);
  await until('the list', async () => (await page.locator('#count-all').innerText()) === '50');
  await page.keyboard.press('/');
  await page.keyboard.type('unit-1');
  await until('the search', async () => (await page.locator('.row:not([hidden])').count()) === 10);
  await page.keyboard.press('ArrowDown');
  await page.keyboard.press('ArrowDown');
  await until('the second is chosen', async () => (await page.locator('.row.chosen .agent').innerText()) === 'unit-11');
  await page.keyboard.press('Enter');
  await until('the details', async () => (await page.locator('#details-connections td').first().innerText().catch(() => '')) === 'machine-1');
  await page.keyboard.press('Escape');
  await page.locator('#search').fill('');
  await until('the whole list again', async () => (await page.locator('.row:not([hidden])').count()) > 10);
  await until('the last', async () => { // a dialog that closes gives the focus back a moment later: press until it is heard
    await page.locator('#scroll').focus();
    await page.keyboard.press('End');
    return (await page.locator('.row.chosen .agent').innerText().catch(() => '')) === 'unit-49';
  });
  await page.locator('.chips [data-status=missing]').click();
  await until('the filter', async () => (await page.locator('.row:not([hidden])').count()) === 0);
  assert.deepStrictEqual(page.problems, []);
  await page.context().close();
}

async function fitsAPhone(browser, daemon) {
  for (const colorScheme of ['light', 'dark']) {
    const page = await open(browser, daemon, { viewport: { width: 360, height: 720 }, colorScheme });
    await page.locator('.row:not([hidden])').first().waitFor();
    const widths = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    assert.ok(widths[0] <= widths[1], `wider than the screen: ${widths}`);
    const ground = await page.evaluate(() => getComputedStyle(document.body).backgroundColor.match(/\d+/g).map(Number));
    assert.strictEqual(ground[0] < 128, colorScheme === 'dark');
    await page.context().close();
  }
}

async function saysWhenStale(browser, daemon, feeder) {
  const page = await open(browser, daemon);
  await until('the list', async () => (await page.locator('#count-all').innerText()) === '50');
  const { resp, http } = daemon;
  feeder.end();
  assert.ok(await daemon.stop());
  await page.waitForSelector('#freshness.stale');
  assert.match(await page.locator('#freshness').innerText(), /stale since/);
  assert.strictEqual(await page.locator('#count-all').innerText(), '50'); // what was known is still shown
  await daemon.start(`127.0.0.1:${resp}`, `127.0.0.1:${http}`);
  await page.waitForSelector('#freshness.live');
  await until('what is gone is gone', async () => (await page.locator('#count-all').innerText()) === '0');
  const again = new Feeder(daemon.resp);
  await again.send('PRESENCE.CONNECT', 'machine-2', model, 'unit-back-0', 1);
  await becomes(page, 'unit-back-0', 'alive');
  assert.deepStrictEqual(page.problems, []);
  await page.context().close();
  return again;
}

/* The colours of the chart's areas, which are painted thinly: those of more than a few pixels. */
async function chartAreas(page) {
  return page.evaluate(() => {
    const canvas = document.getElementById('chart'), counts = new Map();
    const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
    for (let at = 0; at < data.length; at += 4) {
      if (data[at + 3] < 50 || data[at + 3] > 62) continue;
      const colour = [data[at], data[at + 1], data[at + 2]].map((part) => Math.round(part / 32)).join();
      counts.set(colour, (counts.get(colour) ?? 0) + 1);
    }
    return [...counts].filter(([, count]) => count > 40).map(([colour]) => colour);
  });
}

async function scrollsMany(browser, daemon, feeder) {
  for (let i = 0; i < many;) {
    const sent = [];
    for (const end = i + 5000; i < end; i++) sent.push(feeder.send('PRESENCE.CONNECT', `machine-${i % 10}`, other, `unit-${String(i).padStart(6, '0')}`, 1000 + i));
    await Promise.all(sent);
  }
  const page = await open(browser, daemon);
  await page.evaluate(() => {
    window.long = [];
    new PerformanceObserver((list) => window.long.push(...list.getEntries().map((entry) => Math.round(entry.duration)))).observe({ type: 'longtask', buffered: true });
  });
  await page.locator('#model').selectOption(other);
  await until('all are listed', async () => (await page.locator('#count-all').innerText()) === many.toLocaleString('en'), 60000);
  const loading = await page.evaluate(() => window.long.splice(0));
  assert.ok(await page.locator('.row').count() < 100, 'only the rows that can be seen are elements');
  for (let step = 1; step <= 40; step++) {
    await page.evaluate((part) => { const scroll = document.getElementById('scroll'); scroll.scrollTop = part * scroll.scrollHeight; }, step / 40);
    await page.waitForTimeout(20);
  }
  await until('the last row', async () => (await status(page, `unit-${String(many - 1).padStart(6, '0')}`)) === 'alive');
  await page.locator('#search').fill('unit-0999');
  await until('the search', async () => /^100 agents/.test(await page.locator('#agents-note').innerText()));
  const scrolling = await page.evaluate(() => window.long.splice(0));
  await until('the chart shows who is alive', async () => (await chartAreas(page)).length === 1);
  await page.locator('#search').fill('');
  await feeder.send('PRESENCE.SERVERDOWN', 'machine-3');
  await until('a tenth is missing', async () => (await page.locator('#count-missing').innerText()) === (many / 10).toLocaleString('en'), 60000);
  await until('the chart shows who is missing, too', async () => (await chartAreas(page)).length === 2);
  const storm = await page.evaluate(() => window.long.splice(0));
  const tell = (name, tasks) => console.log(`# long tasks (50 ms and more) while ${name}: ${tasks.length}, the longest ${Math.max(0, ...tasks)} ms`);
  tell(`${many} agents were listed`, loading);
  tell('they were scrolled and searched', scrolling);
  tell(`${many / 10} of them went missing at once`, storm);
  assert.deepStrictEqual(page.problems, []);
  await page.context().close();
}

async function asksForAToken(browser, program) {
  const secret = 'a-secret-of-this-test';
  const daemon = new Daemon(program);
  const tokens = path.join(daemon.folder, 'tokens');
  fs.writeFileSync(tokens, `reader sha256:${crypto.createHash('sha256').update(secret).digest('hex')} read\n`);
  daemon.options = ['--tokens', tokens];
  await daemon.start();
  try {
    const context = await browser.newContext();
    const page = await context.newPage();
    await page.goto(daemon.url);
    await page.waitForSelector('#login[open]');
    await page.locator('#token').fill('wrong');
    await page.locator('#login-form button').click();
    await until('the refusal', async () => /not known/.test(await page.locator('#login-problem').textContent()));
    await page.locator('#token').fill(secret);
    await page.locator('#login-form button').click();
    await page.waitForSelector('#freshness.live');
    await until('the totals', async () => (await page.locator('#total-alive').innerText()) === '0');
    await context.close();
  } finally {
    assert.ok(await daemon.stop());
    daemon.clean();
  }
}

/* A node whose NATS is not there knows what it states itself, and says that it is no judge of the rest. */
async function saysWhatTheClusterIs(browser, program) {
  const daemon = new Daemon(program);
  daemon.options = ['--node', 'node-7', '--nats', 'nats://127.0.0.1:1'];
  await daemon.start();
  try {
    const feeder = new Feeder(daemon.resp);
    await feeder.send('PRESENCE.SESSION', 'machine-0', 'EPOCH', 1);
    await feeder.send('PRESENCE.CONNECT', 'machine-0', model, 'unit-mysql-0', 1);
    const page = await open(browser, daemon);
    await until('the doubt', async () => /^node-7: this node is joining the cluster.* Stale since \d/.test(await page.locator('#doubt').innerText()));
    await until('who states it', async () => (await page.locator('#servers .freshness').first().innerText()) === 'fresh · node-7');
    assert.deepEqual(page.problems, []);
    await page.context().close();
    feeder.end();
  } finally {
    assert.ok(await daemon.stop());
    daemon.clean();
  }
}

async function main(program) {
  const found = findBrowser();
  if (found.reason) {
    console.log(`SKIP ${found.reason}`);
    process.exit(77);
  }
  const daemon = await new Daemon(program).start();
  const browser = await launch(found);
  let feeder = new Feeder(daemon.resp);
  try {
    await story('an agent appears, goes missing with its server, comes back, leaves', () => comesAndGoes(browser, daemon, feeder));
    await story('names stay text', () => staysText(browser, daemon, feeder));
    await story('it is used by keyboard alone', () => isUsedByKeyboard(browser, daemon, feeder));
    await story('it fits a phone, in the light and in the dark', () => fitsAPhone(browser, daemon));
    await story('it says when it is stale, and comes back', async () => { feeder = await saysWhenStale(browser, daemon, feeder); });
    await story(`${many} agents scroll`, () => scrollsMany(browser, daemon, feeder));
    const clusters = spawnSync(program, ['--check-config', '--node', 'a', '--nats', 'nats://127.0.0.1:1']).status === 0;
    if (clusters) await story('it says what the cluster is', () => saysWhatTheClusterIs(browser, program));
    await story('it asks for a token where one is wanted', () => asksForAToken(browser, program));
    feeder.end();
  } finally {
    await browser.close();
    await story('presenced ends cleanly', async () => assert.ok(await daemon.stop()));
    daemon.clean();
  }
  process.exit(failed ? 1 : 0);
}

main(process.argv[2]).catch((error) => {
  console.error(error);
  process.exit(1);
});
