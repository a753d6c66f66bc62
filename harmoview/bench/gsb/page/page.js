// One rater's session: two videos side by side, a vote, the next. Nothing leaves the browser but files.

const data = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const EVERY = 20; // votes between two downloads
const APART = 0.12; // seconds that the videos may be out of step
const QUESTIONS = {
  overall: "Which video is better overall, for these people and this text?",
  identity: "In which do the people look more like their pictures?",
  motion: "In which do things move better?",
  naturalness: "Which one looks more natural?",
  prompt: "Which one follows the text better?",
};
const questions = data.items.flatMap((item) => data.axes.map((axis) => ({ item, axis })));
const videos = [at("left"), at("right")];
let rater = "", started = "", answers = [];
let shown = null; // the item on the screen: its plays, and the time it was looked at
let paused = false;

const slot = () => `harmoview-gsb/${data.package}/${rater}`;

function trouble(words) {
  at("trouble").textContent = words;
  at("trouble").hidden = !words;
}

function stored() {
  try {
    return JSON.parse(localStorage.getItem(slot()) ?? "null");
  } catch {
    return null; // no storage in this browser: the downloads are what is kept
  }
}

function keep() {
  try {
    localStorage.setItem(slot(), JSON.stringify(record()));
  } catch {
    trouble("This browser keeps nothing by itself: download your answers before you close the page.");
  }
}

function record() {
  const client = { agent: navigator.userAgent, screen: [screen.width, screen.height], started };
  return { format: data.format, package: data.package, rater, answers, client };
}

function download() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(record(), null, 1)], { type: "application/json" }));
  link.download = `${data.name}.${rater.replace(/[^\p{L}\p{N}]+/gu, "-")}.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// Answers are given in order, so they must be those of the first questions.
function fits(found) {
  return found?.format === data.format && found.package === data.package && Array.isArray(found.answers) &&
    found.answers.every((one, k) => one.item === questions[k]?.item.id && one.axis === questions[k].axis);
}

function begin(name, imported) {
  rater = name.trim();
  if (!rater) return;
  const found = [imported, stored()].filter(fits).sort((a, b) => b.answers.length - a.answers.length)[0];
  answers = found ? found.answers : [];
  started = found?.client?.started ?? new Date().toISOString();
  at("welcome").hidden = true;
  trouble("");
  keep();
  show();
}

function show() {
  const next = questions[answers.length];
  at("study").hidden = !next;
  at("end").hidden = Boolean(next);
  document.body.dataset.answers = answers.length;
  if (!next) {
    videos.forEach((video) => video.pause());
    shown = null;
    return;
  }
  at("bar").firstElementChild.style.width = `${(100 * answers.length) / questions.length}%`;
  at("place").textContent = `${data.items.indexOf(next.item) + 1} of ${data.items.length}`;
  at("question").textContent = QUESTIONS[next.axis];
  at("back").disabled = !answers.length;
  if (shown?.item !== next.item) load(next.item);
  else shown.since = performance.now();
  open();
}

function load(item) {
  shown = { item, plays: 0, watched: 0, since: performance.now(), ended: [false, false] };
  at("prompt").textContent = item.prompt;
  at("references").replaceChildren(...item.references.map((person) => {
    const row = document.createElement("div"), name = document.createElement("span");
    name.textContent = person.label;
    row.append(name, ...person.files.map((file) => Object.assign(new Image(), { src: file, alt: "" })));
    return row;
  }));
  setPaused(false);
  videos.forEach((video, k) => { video.src = [item.left, item.right][k]; video.load(); });
}

function play() {
  if (!paused && shown && videos.every((video) => video.readyState >= 3)) {
    videos.forEach((video, k) => shown.ended[k] || video.play().catch(() => {})); // a newer load interrupts it
  }
}

function open() {
  const may = Boolean(shown?.plays) && !paused;
  document.querySelectorAll("#votes button").forEach((button) => { button.disabled = !may; });
}

function setPaused(now) {
  if (shown && now && !paused) shown.watched += performance.now() - shown.since;
  if (shown) shown.since = performance.now();
  paused = now;
  at("pause").textContent = now ? "Go on" : "Pause";
  if (now) videos.forEach((video) => video.pause());
  else play();
  open();
}

function vote(choice) {
  if (!choice || paused || !shown?.plays) return;
  const { item, axis } = questions[answers.length];
  const ms = Math.round(shown.watched + performance.now() - shown.since);
  answers.push({ item: item.id, axis, vote: choice, ms, plays: shown.plays, at: new Date().toISOString() });
  shown.watched = 0;
  keep();
  if (answers.length % EVERY === 0 || answers.length === questions.length) download();
  show();
}

function back() {
  if (!answers.length) return;
  answers.pop();
  keep();
  show();
}

videos.forEach((video, k) => {
  video.addEventListener("canplay", play);
  video.addEventListener("error", () => video.src && trouble(
    "A video of this pair cannot be played here. Try another browser (Chrome, Edge, Firefox, Safari), or tell " +
    "whoever gave you this folder."));
  video.addEventListener("ended", () => {
    shown.ended[k] = true;
    if (!shown.ended.every(Boolean)) return;
    shown.plays += 1;
    shown.ended = [false, false];
    videos.forEach((one) => { one.currentTime = 0; });
    open();
    play();
  });
});
videos[0].addEventListener("timeupdate", () => {
  const [a, b] = videos;
  if (!a.ended && !b.ended && !b.seeking && Math.abs(a.currentTime - b.currentTime) > APART) {
    b.currentTime = Math.min(a.currentTime, b.duration || a.currentTime);
  }
});

at("votes").addEventListener("click", (event) => vote(event.target.closest("button")?.dataset.vote));
at("pause").addEventListener("click", () => setPaused(!paused));
at("back").addEventListener("click", back);
at("undo").addEventListener("click", back);
at("save").addEventListener("click", download);
at("again").addEventListener("click", download);
at("welcome").addEventListener("submit", (event) => { event.preventDefault(); begin(at("rater").value, null); });
at("import").addEventListener("change", async (event) => {
  let found = null;
  try {
    found = JSON.parse(await event.target.files[0].text());
  } catch { /* told below */ }
  if (fits(found)) begin(found.rater, found);
  else trouble("This file does not hold answers to these videos.");
});
document.addEventListener("keydown", (event) => {
  if (at("study").hidden || event.ctrlKey || event.altKey || event.metaKey || event.repeat) return;
  const act = { 1: () => vote("left"), 2: () => vote("same"), 3: () => vote("right"), " ": () => setPaused(!paused),
    Backspace: back }[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});

at("count").textContent = data.items.length;
if (!videos[0].canPlayType(data.mime)) {
  trouble(`This browser cannot play these videos (${data.mime}). Use another one, or ask for a package with ` +
    (data.mime.includes("mp4") ? "VP9 videos." : "H.264 videos."));
  at("welcome").hidden = true;
}
