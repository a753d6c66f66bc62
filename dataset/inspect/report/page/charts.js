// The charts, drawn anew for every state of the sliders.

// What a chart's score may be at a yaw: [low, high], null where nothing bounds it.
function boundsOf(state, chart, yaw) {
  const away = chart.less_yaw ? yaw : 0;
  return boundsAt(state, chart.column, yaw).map((bound) => (bound === null ? null : bound - away));
}

const chartOf = (name) => data.charts.find((chart) => chart.name === name);

function drawFunnel(holder, now, start) {
  const { funnel } = data.stats;
  const known = (title, count) => (count === undefined || count === null ? null : { title, count });
  const moved = (title, value, first) => ({ title, count: value.count, margin: value.margin, first });
  const columns = [
    ["Videos, share of all", [known("videos", funnel.videos), known("prepared", funnel.prepared),
      known("candidates", funnel.candidates), moved("samples kept", now.samples, start.samples.count),
      known("packed in RUN/shards", funnel.samples_packed)]],
    ["Identities, share of those found", [known("found", funnel.identities), moved("kept", now.identities, start.identities.count)]],
    ["Views, share of those made", [known("made", now.made), known("face found", now.detected),
      moved("pass every rule", { count: now.passed, margin: 0 }, start.passed),
      moved("of kept identities", now.views, start.views.count)]],
  ];
  holder.replaceChildren(...columns.map(([title, steps]) => {
    const shown = steps.filter((step) => step), most = Math.max(shown[0].count, 1);
    return el("div", { class: "funnel" }, el("h3", {}, title), shown.map((step) => el("div", { class: "step" },
      el("span", { class: "name" }, step.title),
      el("span", { class: "value", "data-step": step.title }, about({ margin: 0, ...step })),
      el("span", { class: "share" }, percent(step.count, most)),
      el("span", { class: "bar" },
        el("i", { style: { width: `${Math.min(100, (100 * step.count) / most)}%` } }),
        step.first === undefined ? null : el("b", { style: { left: `${(100 * step.first) / most}%` } })))));
  }));
}

function drawWindows(holder) {
  const { windows, passed, together, reasons, identities, without, lengths, spans } = data.stats.windows;
  const bars = (title, steps, whole) => el("div", { class: "funnel" }, el("h3", {}, title), steps.map(([name, count]) =>
    el("div", { class: "step" }, el("span", { class: "name" }, name),
      el("span", { class: "value", "data-window": `${title}: ${name}` }, number(count)),
      el("span", { class: "share" }, percent(count, whole)),
      el("span", { class: "bar" }, el("i", { style: { width: `${whole ? (100 * count) / whole : 0}%` } })))));
  const bins = (counts, unit) => Object.entries(counts).map(([low, count], i, all) =>
    [i + 1 < all.length ? `${low}–${all[i + 1][0]}${unit}` : `${low}${unit} and more`, count]);
  holder.replaceChildren(
    bars("Windows", [["found", windows], ["pass the rules", passed],
      ...Object.entries(reasons).map(([reason, count]) => [plain(reason), count]),
      ["with two identities", together]], windows),
    bars("By length", bins(lengths, " s"), passed), bars("By yaw span", bins(spans, "°"), passed),
    bars("Identities kept", [["with a window", identities], ["without one", without]], identities + without));
}

function drawYields(holder, now, start) {
  holder.replaceChildren(...now.yaws.map((yaw, index) => {
    const first = start.yaws[index], share = (count) => (yaw.made ? (100 * count) / yaw.made : 0);
    const parts = data.reasons.map((name) => [name, name === "passed" ? yaw.passed : yaw.reasons[name] || 0]);
    return el("div", { class: "yield", "data-yaw": yaw.yaw },
      el("span", { class: "name" }, degrees(yaw.yaw)),
      el("span", { class: "stack" },
        parts.filter(([, count]) => count).map(([name, count]) => el("i", {
          class: `fate-${name}`, style: { width: `${share(count)}%` },
          "data-tip": `${degrees(yaw.yaw)} ${plain(name)}: ${number(count)} (${percent(count, yaw.made)})`,
        })),
        el("b", { style: { left: `${share(first.passed)}%` } })),
      el("span", { class: "value" }, percent(yaw.passed, yaw.made)),
      el("span", { class: "muted" }, el("span", { "data-passed": yaw.passed }, number(yaw.passed)),
        ` of ${number(yaw.made)} pass, ${about(yaw.kept)} kept`));
  }));
}

function drawLegend(holder) {
  holder.replaceChildren(...data.reasons.map((name) =>
    el("span", {}, el("i", { class: `fate-${name}` }), plain(name))));
}

function drawHistograms(holder, state, name) {
  const { unmeasured } = data.histograms[name], { edges, counts } = coarse(data.histograms[name]);
  const chart = chartOf(name);
  holder.replaceChildren(...data.yaws.map((yaw) => {
    const [low, high] = boundsOf(state, chart, yaw);
    const bars = counts[yaw], missing = unmeasured[yaw];
    const rule = low === null && high === null ? "not judged here"
      : low !== null && high !== null ? `±${trim(high)}°`
      : low !== null ? `at least ${trim(low)}` : `at most ${trim(high)}`;
    return el("figure", {},
      el("figcaption", {}, el("strong", {}, degrees(yaw)), el("span", { class: "muted" }, rule)),
      histogram(edges, bars, low, high, chart.axis),
      missing ? el("p", { class: "muted small" }, `${number(missing)} could not be measured`) : null);
  }));
}

// Wider bars where there are few views to show.
function coarse({ edges, counts }) {
  const most = Math.max(...data.yaws.map((yaw) => counts[yaw].reduce((a, b) => a + b, 0)));
  const step = most < 100 ? 4 : most < 1000 ? 2 : 1;
  const merged = data.yaws.map((yaw) => [yaw, edges.slice(1).flatMap((_, i) =>
    (i % step ? [] : [counts[yaw].slice(i, i + step).reduce((a, b) => a + b, 0)]))]);
  return { edges: edges.filter((_, i) => i % step === 0), counts: Object.fromEntries(merged) };
}

function histogram(edges, bars, low, high, axis) {
  const width = 260, height = 136, left = 6, right = 6, bottom = 36, top = 18;
  const end = edges[edges.length - 1], room = (end - edges[0]) * 0.05;
  const first = Math.min(edges[0], (low ?? Infinity) - room), last = Math.max(end, (high ?? low ?? -Infinity) + room);
  const x = (value) => left + ((value - first) / (last - first)) * (width - left - right);
  const floor = height - bottom, most = Math.max(...bars, 1);
  const y = (count) => floor - (count / most) * (floor - top);
  const shade = (from, to) => svg("rect", { class: "rejected", x: from, y: top, width: Math.max(to - from, 0), height: floor - top });
  const line = (at) => svg("line", { class: "threshold", x1: x(at), x2: x(at), y1: top - 4, y2: floor });
  return svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `histogram of ${axis}` },
    low === null ? null : shade(left, x(low)), high === null ? null : shade(x(high), width - right),
    bars.map((count, i) => svg("rect", {
      class: "column", x: x(edges[i]), width: Math.max(x(edges[i + 1]) - x(edges[i]) - 0.6, 0.6),
      y: y(count), height: floor - y(count),
      "data-tip": count ? `${trim(edges[i])} to ${trim(edges[i + 1])}: ${number(count)} views` : null,
    })),
    svg("line", { class: "axis", x1: left, x2: width - right, y1: floor, y2: floor }),
    ticks(first, last, 5).map((value) => svg("text", { x: Math.min(Math.max(x(value), 12), width - 12), y: floor + 12, class: "tick" }, trim(value))),
    svg("text", { x: width / 2, y: height - 4, class: "tick label" }, axis),
    svg("text", { x: width - right, y: top - 5, class: "tick end" }, `highest bar: ${number(most)} views`),
    low === null ? null : line(low), high === null ? null : line(high));
}

// Scores below which a share of the views lies, read off a histogram.
function quantiles(edges, bars, shares) {
  const total = bars.reduce((a, b) => a + b, 0);
  if (!total) return null;
  return shares.map((share) => {
    let rest = share * total, i = 0;
    while (i < bars.length - 1 && rest > bars[i]) rest -= bars[i++];
    return edges[i] + (edges[i + 1] - edges[i]) * (bars[i] ? rest / bars[i] : 0);
  });
}

function drawQuantiles(holder, state, name, axis) {
  const { edges, counts } = data.histograms[name], yaws = data.yaws;
  const width = 520, height = 270, left = 44, right = 14, top = 12, bottom = 40;
  const known = yaws.map((yaw) => quantiles(edges, counts[yaw], [0.05, 0.25, 0.5, 0.75, 0.95]));
  const bounds = yaws.map((yaw) => boundsOf(state, chartOf(name), yaw));
  const off = name === "identity_cosine" ? -1 : -Infinity; // a threshold that rejects nothing
  const all = [...known.flat(), ...bounds.flat()].filter((value) => value !== null && value > off);
  const low = Math.min(...all, 0), high = Math.max(...all, low + 0.1);
  const pad = (high - low) * 0.06, side = yaws.length > 1 ? (yaws[yaws.length - 1] - yaws[0]) / yaws.length / 2 : 10;
  const x = (yaw) => left + ((yaw - yaws[0] + side) / (yaws[yaws.length - 1] - yaws[0] + 2 * side)) * (width - left - right);
  const y = (value) => height - bottom - ((Math.max(value, low - pad) - low + pad) / (high - low + 2 * pad)) * (height - top - bottom);
  const half = Math.min(16, (x(yaws[0] + side) - x(yaws[0])) * 0.55);
  const every = Math.ceil((44 * yaws.length) / (width - left - right)); // labels need room
  const shapes = yaws.flatMap((yaw, i) => {
    if (!known[i]) return [];
    const [p5, p25, p50, p75, p95] = known[i].map(y), at = x(yaw);
    return [svg("g", { "data-tip": `${degrees(yaw)}: median ${trim(known[i][2])}, half of all from ${trim(known[i][1])} to ${trim(known[i][3])}, nine in ten from ${trim(known[i][0])} to ${trim(known[i][4])}` },
      svg("rect", { class: "hit", x: at - half, width: 2 * half, y: p95, height: Math.max(p5 - p95, 1) }),
      svg("line", { class: "whisker", x1: at, x2: at, y1: p95, y2: p5 }),
      svg("rect", { class: "box", x: at - half / 2, width: half, y: p75, height: Math.max(p25 - p75, 1), rx: 2 }),
      svg("line", { class: "median", x1: at - half / 2, x2: at + half / 2, y1: p50, y2: p50 }))];
  });
  const marks = yaws.flatMap((yaw, i) => bounds[i].filter((value) => value !== null).map((value) =>
    svg("line", { class: "threshold", x1: x(yaw) - half, x2: x(yaw) + half, y1: y(value), y2: y(value) })));
  const curve = name === "identity_cosine"
    ? svg("polyline", { class: "curve", points: yaws.map((yaw, i) => [x(yaw), bounds[i][0]]).filter(([, v]) => v !== null).map(([a, v]) => `${a},${y(v)}`).join(" ") }) : null;
  const unjudged = name === "identity_cosine" ? yaws.filter((_, i) => bounds[i][0] === null).map((yaw) =>
    svg("g", {}, svg("rect", { class: "unjudged", x: x(yaw) - half, width: 2 * half, y: top, height: height - top - bottom }),
      svg("text", { class: "tick", x: Math.min(Math.max(x(yaw), left + 40), width - right - 40), y: height - bottom - 6 }, "not judged"))) : [];
  holder.replaceChildren(svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${axis} by yaw` },
    ticks(low - pad, high + pad, 6).map((value) => svg("g", {},
      svg("line", { class: "gridline", x1: left, x2: width - right, y1: y(value), y2: y(value) }),
      svg("text", { class: "tick end", x: left - 6, y: y(value) + 4 }, trim(value)))),
    unjudged, shapes, curve, marks,
    yaws.filter((_, i) => i % every === 0).map((yaw) =>
      svg("text", { class: "tick", x: x(yaw), y: height - bottom + 16 }, degrees(yaw))),
    svg("text", { class: "tick label", x: (left + width - right) / 2, y: height - 5 }, "yaw asked for"),
    svg("text", { class: "tick label", transform: `translate(11 ${(height - bottom) / 2}) rotate(-90)` }, axis)));
}
