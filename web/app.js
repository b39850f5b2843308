// SPDX-License-Identifier: Apache-2.0
//
// app.js - the dashboard: lists what is recorded, then follows the events from there, without gaps.
//
// Keeps true: names are only ever set as text, never as markup; what is shown is what the server told, and the page says
// when it may be out of date. One stream of agent-level events feeds all of it. However many agents there are, only the
// rows that can be seen are elements, lists come in pages, and a burst of events is drawn once a frame.
'use strict';

const CHART_SPANS_MS = [60000, 120000, 300000];
const PAGE = 5000, MOST_AGENTS = 500000, FEED_KEPT = 60, CHART_MS = 600000, SILENCE_MS = 40000, EVIDENCE_MS = 15000;
const $ = (id) => document.getElementById(id);
const number = new Intl.NumberFormat('en');

/* ------------------------------------------------------------------------------------------------ small helpers -- */

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function plural(count, one, many) {
  return `${number.format(count)} ${count === 1 ? one : many}`;
}

function ago(time) {
  if (!time) return '–';
  const seconds = Math.max(0, Math.round((Date.now() - time) / 1000));
  if (seconds < 2) return 'just now';
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86400)} d ago`;
}

function clock(time) {
  return new Date(time).toLocaleTimeString([], { hour12: false });
}

function full(time) {
  return time ? new Date(time).toLocaleString() : 'never';
}

const words = { server_down: 'server down', timed_out: 'timed out' };
const reasonText = (reason) => words[reason] || (reason === 'none' ? '–' : reason);

/* At most one call each `ms`, the last one never lost. */
function throttled(ms, run) {
  let timer = 0, last = 0;
  return () => {
    if (timer) return;
    timer = setTimeout(() => { timer = 0; last = Date.now(); run(); }, Math.max(0, last + ms - Date.now()));
  };
}

let drawing = 0;
const dirty = new Set();
/* Draws once a frame, whatever changed how often. */
function draw(part) {
  dirty.add(part);
  if (!drawing) drawing = requestAnimationFrame(() => {
    drawing = 0;
    const parts = [...dirty];
    dirty.clear();
    for (const each of parts) each();
  });
}

/* ------------------------------------------------------------------------------------------------ asking the API -- */

class Refused extends Error {
  constructor(status, problem) {
    super(problem.detail || problem.title || `status ${status}`);
    this.status = status;
    this.code = problem.code || '';
  }
}

let token = sessionStorage.getItem('token') || '';
const authorization = () => (token ? { Authorization: `Bearer ${token}` } : {});

async function refusal(answer) {
  let problem = {};
  try { problem = await answer.json(); } catch { /* a proxy's page, say */ }
  if (answer.status === 401) askForToken(token ? 'This token is not known here.' : '');
  return new Refused(answer.status, problem);
}

async function ask(path) {
  const answer = await fetch(path, { headers: authorization(), cache: 'no-cache' });
  if (!answer.ok) throw await refusal(answer);
  return answer.json();
}

const part = encodeURIComponent;

function askForToken(problem) {
  $('login-problem').textContent = problem;
  if (!$('login').open) $('login').showModal();
}

$('login-form').addEventListener('submit', (event) => {
  event.preventDefault();
  token = $('token').value.trim();
  sessionStorage.setItem('token', token);
  $('login').close();
  stream.restart();
});

/* ----------------------------------------------------------------------------------------------------- freshness -- */

let staleSince = Date.now(), isLive = false;

function setFreshness(live) {
  if (isLive && !live) staleSince = Date.now();
  isLive = live;
  drawFreshness();
}

function drawFreshness() {
  const pill = $('freshness'), text = isLive ? 'live' : stream.opened ? `stale since ${clock(staleSince)} · reconnecting` : 'connecting';
  pill.className = `pill ${isLive ? 'live' : stream.opened ? 'stale' : ''}`;
  if (pill.lastElementChild.textContent !== text) pill.lastElementChild.textContent = text;
}

/* ---------------------------------------------------------------------------------------------------- the cluster -- */

/* What this node thinks of its own view, which no event tells; asked anew each few seconds, if it is in a cluster. */
const CLUSTER_MS = 2000;
const doubts = {
  joining: 'this node is joining the cluster: what reads unknown may be known elsewhere',
  deaf: 'this node is cut off from the cluster: statuses are the last known',
  silent: 'the node that states this is not heard',
};
const cluster = { name: null, doubt: '' };

async function lookAtCluster() {
  if (isLive) {
    try {
      const told = await ask('/v1/cluster'), changed = cluster.doubt !== (told.stale_because || '');
      Object.assign(cluster, { name: told.cluster, doubt: told.stale_because || '' });
      $('doubt').hidden = !cluster.doubt;
      if (cluster.doubt) {
        const why = cluster.doubt === 'silent' ? 'most nodes of the cluster are not heard' : doubts[cluster.doubt];
        $('doubt').textContent = `${told.node}: ${why}. Stale since ${clock(Date.parse(told.stale_since))}.`;
      }
      if (changed || told.peers.some((peer) => peer.silent)) totals();
    } catch { /* the stream says what is wrong */ }
  }
  if (cluster.name !== null || !isLive) setTimeout(lookAtCluster, CLUSTER_MS);
}
setTimeout(lookAtCluster, 0);

/* ----------------------------------------------------------------------------------------------------- the stream -- */

/* Server-Sent Events by fetch, which unlike EventSource can send a token, and says why it was refused. */
const stream = {
  lastId: '', opened: false, wait: 500, heard: 0, abort: null, generation: 0,

  restart() {
    this.generation++;
    this.lastId = '';
    this.wait = 500;
    this.abort?.abort();
    this.run(this.generation);
  },

  async run(generation) {
    while (generation === this.generation) {
      try {
        await this.follow();
      } catch (error) {
        if (generation !== this.generation) return;
        if (error.status === 401) return setFreshness(false);
      }
      if (generation !== this.generation) return;
      setFreshness(false);
      await new Promise((resolve) => setTimeout(resolve, this.wait));
      this.wait = Math.min(this.wait * 1.7, 8000);
    }
  },

  async follow() {
    const headers = authorization();
    if (this.lastId) headers['Last-Event-ID'] = this.lastId;
    this.abort = new AbortController();
    this.heard = Date.now();
    const answer = await fetch('/v1/events?agents=1', { headers, cache: 'no-store', signal: this.abort.signal });
    if (!answer.ok) throw await refusal(answer);
    this.opened = true;
    this.wait = 500;
    setFreshness(true);
    if (this.lastId) totals();
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let rest = ''; ;) {
      const { value, done } = await reader.read();
      if (done) return;
      this.heard = Date.now();
      rest = this.take(rest + value);
    }
  },

  /* Handles each whole event of the text; returns what is not whole. */
  take(text) {
    let from = 0;
    for (let end; (end = text.indexOf('\n\n', from)) >= 0; from = end + 2) {
      let id = '', data = '';
      for (const line of text.slice(from, end).split('\n')) {
        if (line.startsWith('id: ')) id = line.slice(4);
        else if (line.startsWith('data: ')) data = line.slice(6);
      }
      if (id) this.lastId = id;
      if (data) onEvent(JSON.parse(data));
    }
    return text.slice(from);
  },
};

/* A connection that says nothing, not even its comments, is one that is gone. */
setInterval(() => {
  if (isLive && Date.now() - stream.heard > SILENCE_MS) stream.abort?.abort();
  drawFreshness();
  draw(drawRows);
}, 1000);

function onEvent(event) {
  if (event.kind === 'snapshot' || event.kind === 'reset') {
    loadAll();
    return;
  }
  feed.add(event);
  agents.take(event);
  totals();
}

/* --------------------------------------------------------------------------------------- totals, servers, models -- */

const known = { servers: [], models: [], alive: 0, missing: 0 };

const totals = throttled(1000, async () => {
  try {
    const [alive, missing, servers, models] = await Promise.all([
      ask('/v1/count?status=alive'), ask('/v1/count?status=missing'), ask('/v1/servers?limit=1000'), ask('/v1/models?limit=10000')]);
    Object.assign(known, { alive, missing, servers: servers.servers, models: models.models, moreServers: Boolean(servers.cursor),
      revision: models.revision });
    chart.add(alive, missing);
    draw(drawTotals);
    draw(drawServers);
    draw(drawAgents);
    drawModels();
  } catch { /* the stream says that we are stale */ }
});

function share(count) {
  const all = known.alive + known.missing;
  if (!all) return '';
  const percent = 100 * count / all;
  return `${percent > 0 && percent < 0.1 ? '< 0.1' : percent > 99.9 && percent < 100 ? '> 99.9' : percent.toFixed(percent % 1 ? 1 : 0)} %`;
}

function drawTotals() {
  const down = known.servers.filter((server) => server.status === 'missing').length;
  $('total-alive').textContent = number.format(known.alive);
  $('total-missing').textContent = number.format(known.missing);
  $('alive-share').textContent = share(known.alive);
  $('missing-share').textContent = share(known.missing);
  $('total-servers').textContent = number.format(known.servers.length) + (known.moreServers ? '+' : '');
  $('servers-down').textContent = down ? `${number.format(down)} missing` : known.servers.length ? 'all alive' : '';
  $('total-models').textContent = number.format(known.models.length);
  $('revision').textContent = `revision ${number.format(known.revision)}`;
}

const rank = { missing: 0, alive: 1, unknown: 2 };

function drawServers() {
  const most = 200, list = $('servers');
  const sorted = [...known.servers].sort((a, b) => (rank[a.status] ?? 3) - (rank[b.status] ?? 3) || (a.server < b.server ? -1 : 1));
  const rows = sorted.slice(0, most).map((server) => {
    const row = element('li');
    const name = element('span', 'name', server.server);
    name.title = server.server;
    row.append(name);
    if (server.status === undefined) return row;
    row.append(element('span', `status ${server.status}`, server.status));
    row.append(element('span', 'facts', `${plural(server.connections, 'connection', 'connections')}${server.missing && server.alive ? `, ${number.format(server.missing)} missing` : ''}`));
    const freshness = element('span', `freshness ${server.freshness}`, cluster.name && server.node ? `${server.freshness} · ${server.node}` : server.freshness);
    if (server.freshness === 'stale') freshness.title = `${doubts[server.stale_because] || ''}, since ${full(Date.parse(server.stale_since))}`;
    row.append(freshness);
    const meter = element('progress', 'meter');
    meter.max = Math.max(1, server.connections);
    meter.value = server.alive;
    meter.setAttribute('aria-label', 'alive');
    if (server.connections) row.append(meter);
    return row;
  });
  if (sorted.length > most || known.moreServers) rows.push(element('li', 'empty', 'and more'));
  const top = list.scrollTop;
  list.replaceChildren(...rows);
  list.scrollTop = top;
  $('servers-empty').hidden = sorted.length > 0;
}

let drawnModels = '';
function drawModels() {
  const select = $('model');
  const models = [...known.models].sort((a, b) => b.agents - a.agents || (a.model < b.model ? -1 : 1)).slice(0, 2000);
  const key = JSON.stringify(models);
  if (key === drawnModels) return;
  drawnModels = key;
  if (document.activeElement !== select)
    select.replaceChildren(...models.map(({ model, agents: count }) => {
      const option = element('option', '', `${model} · ${plural(count, 'agent', 'agents')}`);
      option.value = model;
      return option;
    }));
  const wanted = agents.model || new URLSearchParams(location.hash.slice(1)).get('model');
  const chosen = models.find(({ model }) => model === wanted) || (agents.model ? null : models[0]);
  if (chosen) select.value = chosen.model;
  if (chosen && chosen.model !== agents.model) agents.choose(chosen.model);
}

$('model').addEventListener('change', () => agents.choose($('model').value));

/* ------------------------------------------------------------------------------------------------------ the chart -- */

const chart = {
  samples: JSON.parse(sessionStorage.getItem('samples') || '[]'),

  add(alive, missing) {
    const now = Date.now();
    this.samples = this.samples.filter((sample) => now - sample[0] < CHART_MS + 60000 && sample[0] <= now);
    this.samples.push([now, alive, missing]);
    sessionStorage.setItem('samples', JSON.stringify(this.samples.slice(-1200)));
    draw(drawChart);
  },
};

/* As far back as there are samples: one minute at least, ten at most. */
function chartSpan(now) {
  const age = chart.samples.length ? now - chart.samples[0][0] : 0;
  return CHART_SPANS_MS.find((span) => span >= age) ?? CHART_MS;
}

/* Two areas, alive below and missing on top, as steps: a count holds until the next one. */
function drawChart() {
  const canvas = $('chart'), box = canvas.getBoundingClientRect(), scale = window.devicePixelRatio || 1;
  const style = getComputedStyle(document.documentElement), context = canvas.getContext('2d');
  const width = box.width, height = box.height, now = Date.now(), span = chartSpan(now);
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  context.scale(scale, scale);
  const samples = chart.samples;
  const top = Math.max(1, ...samples.map((sample) => sample[1] + sample[2])) * 1.12;
  const x = (time) => width - (now - time) / span * width, y = (count) => height - 14 - count / top * (height - 16);
  context.font = `11px ${style.fontFamily}`;
  context.fillStyle = style.getPropertyValue('--faint');
  context.strokeStyle = style.getPropertyValue('--line');
  context.lineWidth = 1;
  const steps = width < 420 ? 2 : 5;
  for (let step = steps; step >= 0; step--) {
    const ago = span * step / steps, at = Math.round(x(now - ago)) + .5;
    context.beginPath();
    context.moveTo(at, 2);
    context.lineTo(at, height - 14);
    context.stroke();
    context.textAlign = step === steps ? 'left' : step === 0 ? 'right' : 'center';
    const label = span > 120000 ? `−${Math.round(ago / 6000) / 10} min` : `−${ago / 1000} s`;
    context.fillText(step === 0 ? 'now' : label, Math.min(width, Math.max(0, at)), height - 2);
  }
  const area = (upper, lower, color) => {
    if (samples.length === 0) return;
    const line = (get, backwards) => {
      const points = [];
      samples.forEach((sample, index) => {
        points.push([x(sample[0]), y(get(sample))], [x(samples[index + 1]?.[0] ?? now), y(get(sample))]);
      });
      return backwards ? points.reverse() : points;
    };
    context.beginPath();
    for (const [a, b] of line(upper, false)) context.lineTo(a, b);
    for (const [a, b] of line(lower, true)) context.lineTo(a, b);
    context.closePath();
    context.globalAlpha = .22;
    context.fillStyle = color;
    context.fill();
    context.globalAlpha = 1;
    context.beginPath();
    for (const [a, b] of line(upper, false)) context.lineTo(a, b);
    context.strokeStyle = color;
    context.lineWidth = 1.75;
    context.stroke();
  };
  area((sample) => sample[1] + sample[2], (sample) => sample[1], style.getPropertyValue('--missing'));
  area((sample) => sample[1], () => 0, style.getPropertyValue('--alive'));
}

setInterval(() => { if (isLive && known.revision !== undefined) chart.add(known.alive, known.missing); }, 5000);
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => draw(drawChart));

/* ------------------------------------------------------------------------------------------------------- the feed -- */

const feed = {
  items: [], waiting: [], paused: false,

  /* Changes of one revision with one outcome are one line. */
  add(event) {
    const first = this.items[0];
    if (first && first.revision === event.revision && first.after === event.after && first.model === event.model) {
      first.count++;
    } else {
      this.items.unshift({ ...event, count: 1, time: Date.parse(event.time) });
      this.items.length = Math.min(this.items.length, FEED_KEPT);
    }
    if (!this.paused) draw(drawFeed);
  },
};

function eventWord(event) {
  if (event.after === 'unknown') return ['disconnected', 'left'];
  if (event.after === 'missing') return ['missing', 'missing'];
  return event.before === 'missing' ? ['reconnected', 'back'] : ['connected', 'alive'];
}

function drawFeed() {
  $('feed').replaceChildren(...feed.items.map((event) => {
    const [kind, word] = eventWord(event), row = element('li', kind), who = element('span', 'who', event.agent);
    const what = element('span', 'what');
    if (event.count > 1) who.append(element('span', 'what', `and ${plural(event.count - 1, 'other', 'others')}`));
    const why = event.reason === word ? '' : ` · ${reasonText(event.reason)}`;
    what.append(element('span', 'kind', word), `${why} · ${event.server}`);
    who.append(what);
    who.title = `${event.agent} in ${event.model}`;
    row.append(element('time', '', clock(event.time)), who);
    return row;
  }));
  $('feed-empty').hidden = feed.items.length > 0;
}

$('pause').addEventListener('click', () => {
  feed.paused = !feed.paused;
  $('pause').setAttribute('aria-pressed', String(feed.paused));
  $('pause').textContent = feed.paused ? 'Go on' : 'Pause';
  if (!feed.paused) draw(drawFeed);
});

/* ------------------------------------------------------------------------------------------------------ the agents -- */

const agents = {
  model: '', rows: new Map(), order: [], added: [], removed: false, shown: [], filtered: true, text: '', status: '',
  counts: { alive: 0, missing: 0, unknown: 0 }, revision: 0, loading: 0, queue: null, note: '', chosen: '', evidence: 0,

  async choose(model) {
    this.model = model;
    history.replaceState(null, '', `#model=${part(model)}`);
    this.chosen = '';
    $('scroll').scrollTop = 0;
    await this.load();
  },

  clear() {
    this.rows = new Map();
    this.order = [];
    this.added = [];
    this.counts = { alive: 0, missing: 0, unknown: 0 };
    this.filtered = false;
  },

  /* All pages of the model's agents; events that come meanwhile wait, and those that the list has already are dropped. */
  async load() {
    const run = ++this.loading, model = this.model;
    this.queue = [];
    this.clear();
    try {
      for (let cursor = ''; cursor !== null && this.rows.size < MOST_AGENTS;) {
        const page = await ask(`/v1/models/${part(model)}/agents?limit=${PAGE}${cursor ? `&cursor=${part(cursor)}` : ''}`);
        if (run !== this.loading) return;
        this.revision = page.revision;
        for (const row of page.agents) this.put(row.agent, row);
        cursor = page.cursor;
        this.note = cursor ? `Loading: ${number.format(this.rows.size)} so far` : '';
        draw(drawAgents);
      }
    } catch (error) {
      if (run !== this.loading) return;
      this.note = `Could not list the agents: ${error.message}`;
      draw(drawAgents);
      if (error.status !== 401 && error.status !== 403) setTimeout(() => run === this.loading && this.load(), 2000);
      return;
    }
    if (this.rows.size >= MOST_AGENTS) this.note = `Only the first ${number.format(MOST_AGENTS)} are shown`;
    const queue = this.queue;
    this.queue = null;
    queue.forEach((event) => this.take(event));
    draw(drawAgents);
  },

  put(name, facts) {
    const since = facts.since ? Date.parse(facts.since) : 0, seen = facts.last_seen ? Date.parse(facts.last_seen) : 0;
    let row = this.rows.get(name);
    if (row) {
      this.counts[row.status]--;
    } else {
      row = { name, lower: name.toLowerCase() };
      this.rows.set(name, row);
      this.added.push(row);
    }
    this.counts[facts.status]++;
    if (row.status !== facts.status) this.filtered = false;
    Object.assign(row, { status: facts.status, reason: facts.reason, since, seen, alive: facts.connections?.alive ?? row.alive,
      missing: facts.connections?.missing ?? row.missing, told: facts.connections ? Date.now() : 0, gone: false });
    return row;
  },

  take(event) {
    if (event.model !== this.model) return;
    if (this.queue) {
      this.queue.push(event);
      return;
    }
    if (event.revision <= this.revision) return;
    if (event.after === 'unknown') {
      const row = this.rows.get(event.agent);
      if (row) {
        this.counts[row.status]--;
        row.gone = true;
        this.removed = true;
        this.rows.delete(event.agent);
        this.filtered = false;
      }
    } else {
      const row = this.put(event.agent, { status: event.after, reason: event.reason, since: event.time,
        last_seen: event.after === 'alive' ? event.time : null });
      row.flash = performance.now();
    }
    draw(drawAgents);
  },

  /* New rows are sorted among themselves and merged, so that one more agent does not sort a hundred thousand. */
  arrange() {
    if (this.removed) this.order = this.order.filter((row) => !row.gone);
    this.removed = false;
    if (this.added.length === 0) return;
    const fresh = this.added.filter((row) => !row.gone && this.rows.get(row.name) === row).sort((a, b) => (a.name < b.name ? -1 : 1));
    this.added = [];
    const old = this.order, last = old[old.length - 1];
    this.filtered = false;
    if (!last || fresh.length === 0 || last.name < fresh[0].name) {
      for (const row of fresh) old.push(row);
      return;
    }
    const merged = [];
    let at = 0;
    for (const row of fresh) {
      while (at < old.length && old[at].name < row.name) merged.push(old[at++]);
      merged.push(row);
    }
    while (at < old.length) merged.push(old[at++]);
    this.order = merged;
  },

  filter() {
    this.arrange();
    if (this.filtered) return;
    this.filtered = true;
    const text = this.text.toLowerCase(), status = this.status;
    this.shown = !text && !status ? this.order
      : this.order.filter((row) => (!status || row.status === status) && (!text || row.lower.includes(text)));
  },

  /* Rows that can be seen are asked for anew when their evidence is old: events do not tell all of it. */
  async refresh(visible) {
    if (this.evidence || !isLive || document.hidden || this.queue) return;
    const old = visible.filter((row) => Date.now() - row.told > EVIDENCE_MS).slice(0, 8), model = this.model;
    if (old.length === 0) return;
    this.evidence = old.length;
    await Promise.all(old.map(async (row) => {
      try {
        const facts = await ask(`/v1/models/${part(model)}/agents/${part(row.name)}`);
        if (model === this.model && this.rows.get(row.name) === row && facts.status !== 'unknown') this.put(row.name, facts);
      } catch { row.told = Date.now(); }
    }));
    this.evidence = 0;
    draw(drawAgents);
  },
};

const pool = [];
let rowHeight = 44;

function makeRow() {
  const row = element('div', 'row');
  row.setAttribute('role', 'row');
  for (const name of ['agent', '', 'why', 'since', 'seen', 'connections']) {
    const cell = element('span', name);
    cell.setAttribute('role', 'gridcell');
    row.append(cell);
  }
  row.children[1].append(element('span', 'status'));
  row.addEventListener('click', () => { choose(row.dataset.agent); openDetails(row.dataset.agent); });
  $('rows').append(row);
  return row;
}

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function fillRow(node, row, index) {
  const cells = node.children;
  node.style.transform = `translateY(${index * rowHeight}px)`;
  node.dataset.agent = row.name;
  node.id = `row-${index}`;
  node.setAttribute('aria-rowindex', String(index + 2));
  node.className = `row${row.name === agents.chosen ? ' chosen' : ''}${row.flash && performance.now() - row.flash < 1600 ? ' fresh' : ''}`;
  setText(cells[0], row.name);
  cells[0].title = row.name;
  const status = cells[1].firstChild;
  status.className = `status ${row.status}`;
  setText(status, row.status);
  setText(cells[2], reasonText(row.reason));
  setText(cells[3], ago(row.since));
  cells[3].title = full(row.since);
  setText(cells[4], ago(row.seen));
  cells[4].title = full(row.seen);
  setText(cells[5], row.told === 0 ? '…' : row.missing && row.alive ? `${row.alive} + ${row.missing} missing` : String(row.alive + row.missing));
}

function drawRows() {
  const scroll = $('scroll'), shown = agents.shown, height = scroll.clientHeight;
  rowHeight = parseFloat(getComputedStyle(document.documentElement).getPropertyValue('--row')) || 44;
  const first = Math.max(0, Math.floor(scroll.scrollTop / rowHeight) - 3);
  const last = Math.min(shown.length, Math.ceil((scroll.scrollTop + height) / rowHeight) + 3);
  const wanted = `${shown.length * rowHeight}px`;
  if ($('spacer').style.height !== wanted) $('spacer').style.height = wanted;
  while (pool.length < last - first) pool.push(makeRow());
  pool.forEach((node, index) => {
    const row = shown[first + index];
    node.hidden = first + index >= last;
    if (!node.hidden) fillRow(node, row, first + index);
  });
  const at = shown.findIndex ? chosenIndex() : -1;
  if (at >= first && at < last) scroll.setAttribute('aria-activedescendant', `row-${at}`);
  else scroll.removeAttribute('aria-activedescendant');
  agents.refresh(shown.slice(first, last));
}

function drawAgents() {
  agents.filter();
  const { alive, missing, unknown } = agents.counts;
  $('count-all').textContent = number.format(alive + missing + unknown);
  $('count-alive').textContent = number.format(alive);
  $('count-missing').textContent = number.format(missing);
  $('grid').setAttribute('aria-rowcount', String(agents.shown.length + 1));
  const nothing = agents.rows.size === 0 ? (agents.model ? 'No agent of this model is recorded.' : 'No agent has connected yet.')
    : agents.shown.length === 0 ? 'No agent fits this search.' : `${plural(agents.shown.length, 'agent', 'agents')} shown`;
  $('agents-note').textContent = agents.note || nothing;
  drawRows();
}

$('scroll').addEventListener('scroll', () => draw(drawRows), { passive: true });
addEventListener('resize', () => { draw(drawRows); draw(drawChart); });

$('search').addEventListener('input', () => {
  agents.text = $('search').value.trim();
  agents.filtered = false;
  $('scroll').scrollTop = 0;
  draw(drawAgents);
});

for (const chip of document.querySelectorAll('.chips button'))
  chip.addEventListener('click', () => {
    agents.status = chip.dataset.status;
    agents.filtered = false;
    for (const other of document.querySelectorAll('.chips button')) other.setAttribute('aria-pressed', String(other === chip));
    $('scroll').scrollTop = 0;
    draw(drawAgents);
  });

/* ----------------------------------------------------------------------------------------------------- the keyboard -- */

function chosenIndex() {
  if (!agents.chosen) return -1;
  const row = agents.rows.get(agents.chosen), shown = agents.shown;
  if (!row) return -1;
  let low = 0, high = shown.length - 1; /* sorted by name */
  while (low <= high) {
    const middle = (low + high) >> 1;
    if (shown[middle] === row) return middle;
    if (shown[middle].name < row.name) low = middle + 1;
    else high = middle - 1;
  }
  return -1;
}

function choose(name) {
  agents.chosen = name;
  draw(drawRows);
}

function chooseIndex(index) {
  const at = Math.max(0, Math.min(agents.shown.length - 1, index)), scroll = $('scroll');
  if (agents.shown.length === 0) return;
  choose(agents.shown[at].name);
  if (at * rowHeight < scroll.scrollTop) scroll.scrollTop = at * rowHeight;
  else if ((at + 1) * rowHeight > scroll.scrollTop + scroll.clientHeight) scroll.scrollTop = (at + 1) * rowHeight - scroll.clientHeight;
}

$('scroll').addEventListener('keydown', (event) => {
  agents.filter();
  const page = Math.max(1, Math.floor($('scroll').clientHeight / rowHeight) - 1), at = chosenIndex();
  const moves = { ArrowDown: at + 1, ArrowUp: at < 0 ? 0 : at - 1, PageDown: at + page, PageUp: at - page, Home: 0, End: agents.shown.length - 1 };
  if (event.key in moves) chooseIndex(moves[event.key]);
  else if (event.key === 'Enter' && at >= 0) openDetails(agents.chosen);
  else return;
  event.preventDefault();
});

addEventListener('keydown', (event) => {
  if (event.key === '/' && !event.ctrlKey && !event.metaKey && !/^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName)) {
    event.preventDefault();
    $('search').focus();
    $('search').select();
  } else if (event.key === 'ArrowDown' && document.activeElement === $('search')) {
    event.preventDefault();
    $('scroll').focus();
    chooseIndex(Math.max(0, chosenIndex()));
  }
});

/* ------------------------------------------------------------------------------------------------------ the details -- */

function fact(name, text) {
  return [element('dt', '', name), element('dd', '', text)];
}

async function openDetails(name) {
  const model = agents.model;
  $('details-title').textContent = name;
  $('details-facts').replaceChildren();
  $('details-connections').replaceChildren();
  if (!$('details').open) $('details').showModal();
  try {
    const [facts, listed] = await Promise.all([ask(`/v1/models/${part(model)}/agents/${part(name)}`),
      ask(`/v1/connections?model=${part(model)}&agent=${part(name)}&limit=100`)]);
    const status = element('dd');
    status.append(element('span', `status ${facts.status}`, facts.status));
    $('details-facts').replaceChildren(element('dt', '', 'Status'), status, ...fact('Why', reasonText(facts.reason)),
      ...fact('Since', facts.since ? `${full(Date.parse(facts.since))} (${ago(Date.parse(facts.since))})` : '–'),
      ...fact('Last seen', facts.last_seen ? `${full(Date.parse(facts.last_seen))} (${ago(Date.parse(facts.last_seen))})` : '–'),
      ...fact('Freshness', facts.freshness === 'stale' ? `stale since ${full(Date.parse(facts.stale_since))}: ${doubts[facts.stale_because] || ''}` : facts.freshness), ...fact('Model', model));
    $('details-connections').replaceChildren(...listed.values.map((value) => {
      const row = element('tr'), cell = element('td');
      cell.append(element('span', `status ${value.status}`, value.status));
      row.append(element('td', '', value.server), element('td', '', value.connection_id), cell,
        element('td', '', value.last_seen ? ago(Date.parse(value.last_seen)) : '–'), element('td', '', value.user_data));
      return row;
    }));
  } catch (error) {
    $('details-facts').replaceChildren(...fact('Problem', error.message));
  }
}

$('details').addEventListener('click', (event) => { if (event.target === $('details')) $('details').close(); });
$('details').addEventListener('close', () => $('scroll').focus({ preventScroll: true }));

/* --------------------------------------------------------------------------------------------------------- begin -- */

function loadAll() {
  totals();
  if (agents.model) agents.load();
}

stream.restart();
