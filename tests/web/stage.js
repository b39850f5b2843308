// SPDX-License-Identifier: Apache-2.0
//
// stage.js - what the browser's tests and the picture need: a presenced of their own on free ports, a RESP connection to
// feed it, and Debian's Chromium. Everything that is started is ended by its process id.
'use strict';

const { spawn } = require('node:child_process');
const fs = require('node:fs');
const net = require('node:net');
const os = require('node:os');
const path = require('node:path');

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/* Waits until `check` gives something true; what it last gave, or an error, when time is over. */
async function until(what, check, ms = 20000) {
  for (const end = Date.now() + ms; ;) {
    const got = await check();
    if (got) return got;
    if (Date.now() > end) throw new Error(`waited in vain: ${what}`);
    await sleep(25);
  }
}

class Daemon {
  constructor(program, options = []) {
    this.folder = fs.mkdtempSync(path.join(os.tmpdir(), 'presence-web.'));
    this.logFile = path.join(this.folder, 'log');
    this.program = program;
    this.options = options;
  }

  async start(resp = '127.0.0.1:0', http = '127.0.0.1:0') {
    const log = fs.openSync(this.logFile, 'w');
    this.child = spawn(this.program, ['--resp', resp, '--http', http, ...this.options], { stdio: ['ignore', 'ignore', log] });
    fs.closeSync(log);
    this.ended = new Promise((resolve) => this.child.on('exit', (code, signal) => resolve({ code, signal })));
    const said = () => fs.readFileSync(this.logFile, 'utf8');
    await until(`presenced starts\n${said()}`, () => said().includes('event=started'));
    this.resp = Number(/protocol=resp address=127\.0\.0\.1:(\d+)/.exec(said())[1]);
    this.http = Number(/protocol=http address=127\.0\.0\.1:(\d+)/.exec(said())[1]);
    this.url = `http://127.0.0.1:${this.http}`;
    return this;
  }

  /* Asks it to end; true if it did so cleanly. */
  async stop() {
    if (!this.child) return true;
    this.child.kill('SIGTERM');
    const late = setTimeout(() => this.child.kill('SIGKILL'), 10000);
    const { code } = await this.ended;
    clearTimeout(late);
    this.child = null;
    return code === 0;
  }

  clean() {
    fs.rmSync(this.folder, { recursive: true, force: true });
  }
}

/* Commands by RESP, pipelined; replies are counted, and errors thrown. Only what has replies of one line. */
class Feeder {
  constructor(port) {
    this.socket = net.connect(port, '127.0.0.1');
    this.socket.setNoDelay(true);
    this.text = '';
    this.waiting = [];
    this.socket.on('data', (data) => {
      this.text += data;
      for (let end; (end = this.text.indexOf('\r\n')) >= 0; this.text = this.text.slice(end + 2)) {
        const line = this.text.slice(0, end), { resolve, reject } = this.waiting.shift();
        if (line[0] === '-') reject(new Error(line));
        else resolve(line);
      }
    });
  }

  send(...words) {
    this.socket.write(`*${words.length}\r\n${words.map((word) => `$${Buffer.byteLength(String(word))}\r\n${word}\r\n`).join('')}`);
    return new Promise((resolve, reject) => this.waiting.push({ resolve, reject }));
  }

  end() {
    this.socket.destroy();
  }
}

const chromiumPaths = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];

/* The browser, or why there is none. */
function findBrowser() {
  const browser = process.env.CHROMIUM || chromiumPaths.find((each) => fs.existsSync(each));
  if (!browser) return { reason: 'Chromium is not installed (scripts/setup all)' };
  try {
    return { browser, chromium: require('playwright-core').chromium };
  } catch {
    return { reason: 'playwright-core is not installed (npm ci in tests/web)' };
  }
}

function launch({ browser, chromium }) {
  return chromium.launch({ executablePath: browser, headless: true, args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'] });
}

module.exports = { Daemon, Feeder, findBrowser, launch, sleep, until };
