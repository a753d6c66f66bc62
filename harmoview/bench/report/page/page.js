// Cases with all methods side by side. Text from the run only ever becomes text.

const data = JSON.parse(document.getElementById("data").textContent);
const APART = 0.12; // seconds that videos of a case may be out of step
const SVG = "http://www.w3.org/2000/svg";
const COLOURS = ["var(--one)", "var(--two)"];
const at = (id) => document.getElementById(id);

function make(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(node.style, value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(2).filter((child) => child !== null && child !== undefined));
  return node;
}
const el = (tag, attributes = {}, ...children) => make(document.createElement(tag), attributes, children);
const svg = (tag, attributes = {}, ...children) => make(document.createElementNS(SVG, tag), attributes, children);

const columnOf = new Map(data.columns.map((column) => [column.name, column]));
const arrow = { up: " ↑", down: " ↓", none: "" };
const state = { methods: new Set(data.methods.map((one) => one.name)), tags: new Set(), playing: true };
const methods = () => data.methods.filter((one) => state.methods.has(one.name));

// Of values by method, the names of the best ones.
function best(values, way) {
  const known = [...values].filter(([, value]) => value !== null && value !== undefined)
    .map(([name, value]) => [name, way === "down" ? Math.max(value, 0) : value]); // under 0 is none, too
  const numbers = known.map(([, value]) => value);
  if (way === "none" || new Set(numbers).size < 2) return new Set();
  const wanted = way === "up" ? Math.max(...numbers) : Math.min(...numbers);
  return new Set(known.filter(([, value]) => value === wanted).map(([name]) => name));
}

function shownValue(value, column) {
  return value === null || value === undefined ? "–" : value.toFixed(column.digits);
}

function drawMeans() {
  const names = methods().map((one) => one.name);
  const rows = data.columns.map((column) => {
    const cells = new Map(names.map((name) => [name, data.summary[name]?.cells[column.name] ?? [null, null, 0]]));
    const first = best(new Map([...cells].map(([name, cell]) => [name, cell[0]])), column.better);
    return el("tr", { class: column.yaw ? "yaw" : null },
      el("th", { scope: "row" }, column.label + arrow[column.better]),
      [...cells].map(([name, [value, interval, n]]) => el("td", { class: first.has(name) ? "best" : null },
        shownValue(value, column),
        n ? el("small", {}, (interval ? `[${interval.map((end) => end.toFixed(column.digits)).join(", ")}] ` : "") + `n ${n}`) : null)));
  });
  const sets = Object.keys(data.summary[names[0]]?.ranks ?? {});
  sets.forEach((set) => rows.push(el("tr", {}, el("th", { scope: "row" }, `rank by ${set}`),
    names.map((name) => el("td", {}, String(data.summary[name]?.ranks[set] ?? "–"))))));
  at("means").replaceChildren(el("table", {},
    el("thead", {}, el("tr", {}, el("th", {}), methods().map((one) => el("th", { scope: "col" }, one.label)))),
    el("tbody", {}, rows)));
  const missing = Math.max(0, ...names.map((name) => data.summary[name]?.missing ?? 0));
  at("missing").textContent = missing
    ? `Totals are blank where columns are missing: up to ${Math.round(100 * missing)} % of the weights of ${data.weights}.` : "";
}

// The yaw of every face that was looked at, over time; the request's ends are dashed.
function strip(video, request, seconds) {
  const x = (time) => 3 + (154 * time) / seconds, y = (yaw) => 27 - (yaw / 90) * 24;
  const line = (yaw, dash) => svg("line", { x1: 0, x2: 160, y1: y(yaw), y2: y(yaw), stroke: "var(--line)", "stroke-dasharray": dash });
  return svg("svg", { viewBox: "0 0 160 54", preserveAspectRatio: "none", role: "img",
    "aria-label": `yaw of ${video.strip.length} faces over time, from −90° to 90°` },
    line(90, null), line(0, null), line(-90, null), (request ?? []).map((yaw) => line(yaw, "3 3")),
    video.strip.map(([time, yaw, who]) => svg("ellipse", { cx: x(time), cy: y(yaw), rx: 1.7, ry: 2.2, fill: COLOURS[who] ?? "var(--nobody)" })),
    svg("line", { class: "head", x1: 3, x2: 3, y1: 0, y2: 54, stroke: "var(--ink)", "stroke-width": 0.8 }));
}

// One case's videos in step: all begin together, wait for the longest, and begin again.
class Player {
  constructor(videos, heads, seek) {
    Object.assign(this, { videos, heads, seek, visible: false, ended: new Set() });
    videos.forEach((video) => {
      video.addEventListener("ended", () => {
        this.ended.add(video);
        if (this.ended.size === videos.length) this.to(0);
      });
      video.addEventListener("timeupdate", () => this.follow(video));
    });
    seek.addEventListener("input", () => {
      this.to((Number(seek.value) / 1000) * Math.max(...videos.map((one) => one.duration || 0)));
    });
  }

  to(time) {
    this.ended.clear();
    this.videos.forEach((video) => { video.currentTime = Math.min(time, video.duration || 0); });
    this.go();
  }

  go() {
    const play = this.visible && state.playing;
    this.videos.forEach((video) => {
      if (this.visible && !video.src) video.src = video.dataset.file;
      if (!play) video.pause();
      else if (!this.ended.has(video)) video.play().catch(() => {}); // a seek interrupts it
    });
  }

  follow(video) {
    const first = this.videos.find((one) => !one.ended) ?? video;
    const longest = Math.max(...this.videos.map((one) => one.duration || 0));
    this.heads.forEach((head) => {
      const x = 3 + (154 * first.currentTime) / longest;
      head.setAttribute("x1", x);
      head.setAttribute("x2", x);
    });
    if (document.activeElement !== this.seek) this.seek.value = (1000 * first.currentTime) / longest;
    if (video !== first && !video.ended && !video.seeking && Math.abs(video.currentTime - first.currentTime) > APART) {
      video.currentTime = Math.min(first.currentTime, video.duration);
    }
  }
}

const players = new Map();
const watcher = new IntersectionObserver((entries) => entries.forEach((entry) => {
  const player = players.get(entry.target);
  if (!player) return;
  player.visible = entry.isIntersecting;
  player.go();
}), { rootMargin: "200px" });

function difference(one) {
  const of = (name) => one.videos[name]?.scores[at("column").value] ?? null;
  const [a, b] = [of(at("a").value), of(at("b").value)];
  return a === null || b === null ? null : b - a;
}

function drawCase(one) {
  const shown = methods().filter((method) => one.videos[method.name]);
  const seconds = Math.max(1, ...shown.flatMap((method) => one.videos[method.name].strip.map(([time]) => time)));
  const videos = shown.map((method) => el("video", { muted: true, playsinline: true, preload: "none",
    "data-file": one.videos[method.name].file, "aria-label": method.label }));
  videos.forEach((video) => { video.muted = true; });
  const strips = shown.map((method) => strip(one.videos[method.name], one.request, seconds));
  const seek = el("input", { type: "range", class: "seek", min: 0, max: 1000, value: 0, "aria-label": "Time" });
  const rows = data.columns.filter((column) => shown.some((method) => column.name in one.videos[method.name].scores))
    .map((column) => {
      const values = new Map(shown.map((method) => [method.name, one.videos[method.name].scores[column.name] ?? null]));
      const first = best(values, column.better);
      return el("tr", { class: column.yaw ? "yaw" : null }, el("th", { scope: "row" }, column.label + arrow[column.better]),
        [...values].map(([name, value]) => el("td", { class: first.has(name) ? "best" : null }, shownValue(value, column))));
    });
  const ordered = at("order").value !== "case", delta = ordered ? difference(one) : null;
  const column = columnOf.get(at("column").value);
  const node = el("section", { class: "card case", "data-case": one.id, "data-seed": one.seed, "data-delta": delta },
    el("header", {}, el("h2", {}, one.id), el("span", { class: "muted" }, `seed ${one.seed}`),
      one.tags.map((tag) => el("span", { class: "tag" }, tag)),
      delta === null ? null : el("span", { class: "delta" }, `B − A: ${delta >= 0 ? "+" : "−"}${Math.abs(delta).toFixed(column.digits)}`)),
    el("p", { class: "prompt" }, one.prompt),
    el("div", { class: "people" }, one.people.map((person, k) => el("div", {},
      el("span", {}, el("i", { style: { background: COLOURS[k] } }), person.label, person.placement ? ` (${person.placement})` : ""),
      person.pictures.map((file) => el("img", { src: file, alt: "", loading: "lazy" }))))),
    el("div", { class: "scroll" }, el("table", {},
      el("thead", {}, el("tr", {}, el("th", {}, el("span", { class: "muted" }, "yaw ±90°"), el("br"), seek),
        shown.map((method, k) => el("th", { scope: "col" }, el("span", { class: "name" }, method.label), videos[k],
          strips[k], one.videos[method.name].failed ? el("span", { class: "failed" }, one.videos[method.name].failed) : null)))),
      el("tbody", {}, rows))));
  players.set(node, new Player(videos, strips.map((chart) => chart.querySelector(".head")), seek));
  return node;
}

function drawCases() {
  players.forEach((player, node) => watcher.unobserve(node));
  players.clear();
  let kept = data.cases.filter((one) => [...state.tags].every((tag) => one.tags.includes(tag)));
  const order = at("order").value;
  if (order !== "case") {
    const sign = order === "down" ? -1 : 1;
    const known = kept.filter((one) => difference(one) !== null);
    known.sort((one, other) => sign * (difference(one) - difference(other)));
    kept = [...known, ...kept.filter((one) => difference(one) === null)];
  }
  at("cases").replaceChildren(...kept.map(drawCase));
  players.forEach((player, node) => watcher.observe(node));
  at("shown").textContent = `${kept.length} of ${data.cases.length} cases`;
  showYaw();
  document.body.dataset.drawn = Number(document.body.dataset.drawn ?? 0) + 1;
}

function showYaw() {
  document.querySelectorAll("tr.yaw").forEach((row) => row.classList.toggle("on", at("yaw").checked));
}

function chip(text, on, flip) {
  const button = el("button", { type: "button", "aria-pressed": String(on) }, text);
  button.addEventListener("click", () => button.setAttribute("aria-pressed", String(flip())));
  return button;
}

function toggled(set, name) {
  if (!set.delete(name)) set.add(name);
  return set.has(name);
}

function begin() {
  const { suite } = data;
  at("title").textContent = data.run;
  at("about").textContent = `Suite ${suite.version}, ${suite.cases} cases, ${suite.identities} identities, ` +
    `${suite.licence}; ${suite.sha256.slice(0, 12)}. Total by ${data.weights}.`;
  at("methods").append(...data.methods.map((one) => chip(one.label, true, () => {
    const on = toggled(state.methods, one.name);
    drawMeans();
    drawCases();
    return on;
  })));
  const tags = [...new Set(data.cases.flatMap((one) => one.tags))].sort();
  at("tags").append(...tags.map((tag) => chip(tag, false, () => {
    const on = toggled(state.tags, tag);
    drawCases();
    return on;
  })));
  for (const id of ["a", "b"]) at(id).append(...data.methods.map((one) => el("option", { value: one.name }, one.label)));
  at("b").selectedIndex = Math.min(1, data.methods.length - 1);
  const scored = new Set(data.cases.flatMap((one) => Object.values(one.videos).flatMap((video) => Object.keys(video.scores))));
  at("column").append(...data.columns.filter((column) => scored.has(column.name))
    .map((column) => el("option", { value: column.name }, column.label)));
  if (scored.has("hv_face_view")) at("column").value = "hv_face_view";
  ["order", "a", "b", "column"].forEach((id) => at(id).addEventListener("change", () => {
    if (id !== "order" && at("order").value === "case") at("order").value = "down";
    drawCases();
  }));
  at("yaw").addEventListener("change", showYaw);
  at("play").addEventListener("click", () => {
    state.playing = !state.playing;
    at("play").textContent = state.playing ? "Pause all" : "Play";
    at("play").setAttribute("aria-pressed", String(state.playing));
    players.forEach((player) => player.go());
  });
  drawMeans();
  drawCases();
}

begin();
