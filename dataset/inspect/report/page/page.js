// Puts the page together and keeps it in step with the sliders.

function slider(threshold, index, state, changed) {
  const id = `threshold-${index}`, value = el("output", { for: id });
  const input = el("input", {
    id, type: "range", min: 0, max: threshold.stops.length - 1, step: 1, value: threshold.at,
    "data-key": threshold.angle === null ? threshold.key : `${threshold.key}.${threshold.angle}`,
  });
  const tell = () => {
    const text = `${trim(threshold.stops[state.positions[index]])}${threshold.unit === "°" ? "°" : ""}`;
    value.textContent = text;
    input.setAttribute("aria-valuetext", text);
    input.classList.toggle("moved", state.positions[index] !== threshold.at);
  };
  input.addEventListener("input", () => { state.positions[index] = Number(input.value); tell(); changed(); });
  tell();
  const reset = () => { input.value = threshold.at; state.positions[index] = threshold.at; tell(); };
  return { node: el("div", { class: "slider" }, el("label", { for: id }, threshold.title), value, input), reset };
}

function drawSliders(form, state, changed) {
  const sliders = data.thresholds.map((threshold, index) => slider(threshold, index, state, changed));
  const fields = new Map();
  data.thresholds.forEach((threshold, index) => {
    const { section } = threshold;
    if (!fields.has(section)) fields.set(section, el("fieldset", {}, el("legend", {}, section)));
    fields.get(section).append(sliders[index].node);
  });
  const least = el("output", { for: "minimum-views" }, String(state.minimumViews));
  const views = el("input", { id: "minimum-views", type: "range", min: 1, max: data.yaws.length, step: 1, value: state.minimumViews });
  const must = el("input", { id: "reference-must-pass", type: "checkbox", checked: state.referenceMustPass });
  const read = () => {
    state.minimumViews = Number(views.value);
    state.referenceMustPass = must.checked;
    least.textContent = views.value;
  };
  views.addEventListener("input", () => { read(); changed(); });
  must.addEventListener("input", () => { read(); changed(); });
  form.replaceChildren(...fields.values(), el("fieldset", {}, el("legend", {}, "Identities kept"),
    el("div", { class: "slider" }, el("label", { for: "minimum-views" }, "Least passing views"), least, views),
    el("label", { class: "check", for: "reference-must-pass" }, must, "reference must pass")));
  return () => {
    sliders.forEach(({ reset }) => reset());
    views.value = data.rules.minimum_views;
    must.checked = data.rules.reference_must_pass;
    read();
    changed();
  };
}

function drawTotals(now, start) {
  const change = (a, b, whole) => {
    const points = whole ? (100 * (a - b)) / whole : 0;
    return a === b ? "" : `${points >= 0 ? "+" : "−"}${Math.abs(points).toFixed(1)}`;
  };
  const line = (title, text, share, of, difference) => el("div", {}, el("span", {}, title),
    el("strong", { "data-total": title }, text), el("span", { class: "share" }, `${share} of ${of}`), el("em", {}, difference));
  const { funnel } = data.stats;
  $("totals").replaceChildren(
    line("views pass", number(now.passed), percent(now.passed, now.made), "those made", change(now.passed, start.passed, now.made)),
    line("identities kept", about(now.identities), percent(now.identities.count, funnel.identities), "those found",
      change(now.identities.count, start.identities.count, funnel.identities)),
    line("samples kept", about(now.samples), percent(now.samples.count, funnel.candidates), "candidates",
      change(now.samples.count, start.samples.count, funnel.candidates)));
  if (!data.identities.all) $("totals").append(el("p", { class: "muted small" },
    `Views are counted exactly. ≈: identities and samples estimated from ${number(data.identities.samples)} samples, with the 95 % interval.`));
  $("brief").replaceChildren(el("span", {}, `${percent(now.passed, now.made)} of views pass`),
    el("span", {}, `${percent(now.samples.count, funnel.candidates)} of candidates kept`));
}

function drawOutcomes(now) {
  const { outcomes, funnel } = data.stats;
  const left = Object.entries(now.held.reasons).sort((a, b) => b[1] - a[1]);
  const scope = data.identities.all ? "Identities left out" : `Identities left out, of ${number(data.identities.held)} looked at`;
  $("outcomes").replaceChildren(
    table(["outcome", "reason", "videos", "share", "examples"], outcomes.map((row) => [
      row.outcome, row.reason === null ? "" : plain(row.reason), number(row.videos),
      percent(row.videos, funnel.videos), el("span", { class: "keys" }, row.examples.join(", ")),
    ]), ["", "", "num", "num", ""]),
    el("h3", {}, scope),
    left.length ? table(["reason", "identities", "share"], left.map(([reason, count]) => [
      plain(reason), number(count), percent(count, data.identities.held)]), ["", "num", "num"])
      : el("p", { class: "muted" }, "none"));
}

function drawRealViews() {
  const real = data.stats.real_views;
  $("real-views").hidden = !real;
  if (!real) return;
  const turned = (yaw) => `${yaw > 0 ? "+" : ""}${yaw}°`, nums = (count) => ["", ...Array(count).fill("num")];
  const mean = (found, digits) => (found === null ? "–" : found.mean.toFixed(digits)
    + (found.low === null ? "" : ` (${found.low.toFixed(digits)} to ${found.high.toFixed(digits)})`));
  $("real").replaceChildren(
    table(["yaw", "identities", "shown so", "share", "from", "to", "real views kept"], real.coverage.map((row) => [
      turned(row.yaw), number(row.identities), number(row.real), percent(row.real, row.identities),
      percent(row.low, 1), percent(row.high, 1), number(row.kept)]), nums(6)));
  if (real.engine.length) $("real").append(
    el("h3", {}, "How good the engine is, on people it never saw"),
    el("p", { class: "muted" }, "Synthesised against real views of one person at one yaw: means with 95 % intervals."),
    table(["yaw", "pairs", "cosine", "degrees apart", "sharpness over real"], real.engine.map((row) => [
      turned(row.yaw), number(row.pairs), mean(row.cosine, 2), mean(row.turn, 1), mean(row.sharpness, 2)]), nums(4)));
}

function drawSeconds() {
  const { seconds, sources } = data.stats;
  const round = (value, digits = 2) => (value === null ? "–"
    : value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits }));
  $("seconds").replaceChildren(seconds.length ? table(
    ["stage", "videos", "mean s", "median s", "95 % under s", "total h", "per kept sample s", "GPU s per kept sample"],
    seconds.map((row) => [row.stage, number(row.videos), round(row.mean), round(row.median), round(row.p95),
      round(row.total / 3600, 3), round(row.per_sample), round(row.gpu_seconds_per_sample)]),
    ["", "num", "num", "num", "num", "num", "num", "num"]) : el("p", { class: "muted" }, "not recorded"));
  const worst = (title, rows) => [el("h3", {}, title), table(
    ["source", "videos", "candidates", "rejected", "errors", "mean s"], rows.map((row) => [
      el("span", { class: "keys" }, row.source), number(row.videos), number(row.candidates),
      number(row.rejected), number(row.errors), round(row.mean)]), ["", "num", "num", "num", "num", "num"])];
  if (sources.count > 1) $("seconds").append(
    ...worst(`Slowest of ${number(sources.count)} sources`, sources.slowest), ...worst("Most failing", sources.failing));
}

function tree(value) {
  if (value === null || typeof value !== "object") return el("span", {}, String(value));
  return el("dl", {}, Object.entries(value).map(([name, inner]) => {
    const nested = inner !== null && typeof inner === "object" && Object.keys(inner).length;
    return el("div", { class: nested ? "nested" : null }, el("dt", {}, name), el("dd", {}, nested ? tree(inner) : tree(inner === null || typeof inner !== "object" ? inner : "–")));
  }));
}

function drawProvenance() {
  const { scoring, versions, settings, corpus, seed } = data.provenance;
  const part = (title, value, open) => el("details", { open }, el("summary", {}, title), tree(value));
  $("provenance").replaceChildren(
    part("Run", { folder: data.run, corpus, seed }, true), part("Scorers", scoring), part("Settings and models", settings),
    part("Versions", versions), part("Rules of this report", data.rules));
}

function drawPage(arrays) {
  const state = startingState(), start = evaluate(arrays, state, null);
  let now = start, shown = data.charts[0].name, fate = data.cards.length ? data.cards[0].fate : null, waiting = false;
  const fates = ["passed", ...new Set(data.cards.map((card) => card.fate))].filter((name, i, all) =>
    all.indexOf(name) === i && data.cards.some((card) => card.fate === name));
  fate = fates[0] || null;
  const histograms = () => drawHistograms($("histograms"), state, shown);
  const update = () => {
    waiting = false;
    now = evaluate(arrays, state, start);
    drawTotals(now, start);
    drawFunnel($("funnel"), now, start);
    drawYields($("yields"), now, start);
    histograms();
    drawQuantiles($("identity"), state, "identity_cosine", "cosine to the reference");
    drawQuantiles($("pose"), state, "pose_error", "degrees");
    markCards($("cards"), arrays, now, state);
    drawOutcomes(now);
    $("toml").value = toToml(state);
    document.body.dataset.drawn = String(Number(document.body.dataset.drawn || 0) + 1);
  };
  const reset = drawSliders($("sliders"), state, () => {
    if (!waiting) requestAnimationFrame(update);
    waiting = true;
  });
  $("reset").addEventListener("click", reset);
  tabs($("tabs"), data.charts.map(({ name }) => name), data.charts.map(({ title }) => title), shown,
    (name) => { shown = name; histograms(); });
  tabs($("fates"), fates, fates.map(plain), fate, (name) => {
    drawCards($("cards"), name);
    markCards($("cards"), arrays, now, state);
  });
  if (fate) drawCards($("cards"), fate);
  drawLegend($("legend"));
  drawProvenance();
  $("windows").hidden = !data.stats.windows.windows;
  $("windows-note").textContent = `Spans in which a person is seen without a cut: those that pass last ${(data.stats.windows.seconds / 60).toFixed(1)} minutes together.`;
  drawWindows($("spans"));
  drawRealViews();
  drawSeconds();
  update();
}

async function copyToml() {
  const text = $("toml");
  try {
    await navigator.clipboard.writeText(text.value);
    $("copy").textContent = "Copied";
  } catch {
    text.closest("details").open = true;
    text.select();
    $("copy").textContent = document.execCommand("copy") ? "Copied" : "Copy it from below";
  }
  setTimeout(() => { $("copy").textContent = "Copy rules TOML"; }, 2000);
}

async function start() {
  const { recogniser } = data.rules.identity;
  document.title = `${data.title} · HarmoView report`;
  $("title").textContent = data.title;
  const { funnel } = data.stats;
  $("about").textContent = `${number(funnel.videos)} videos, ${number(funnel.views_made)} views at ${data.yaws.map(degrees).join(" ")}. `
    + `Scored by ${Object.values(data.provenance.scoring.labels).join(", ")}; seed ${data.provenance.seed}.`;
  $("identity-note").textContent = `${recogniser} cosine to the reference: median, half and nine in ten of the views, and the rule's curve.`;
  $("copy").addEventListener("click", copyToml);
  $("toggle").addEventListener("click", () => {
    const open = $("panel").classList.toggle("open");
    $("toggle").setAttribute("aria-expanded", String(open));
  });
  watchTips();
  drawPage(await unpackArrays());
}

start().catch((wrong) => {
  $("trouble").hidden = false;
  $("trouble").textContent = `The report could not be drawn: ${wrong.message}. It needs a browser of 2023 or later.`;
  throw wrong;
});
