// The rules at the sliders' stops, and what they make of the counts. The checks of every group come
// from filters/checks.py, as those of filters/judge.py do; every stop is the edge of a bin, so that
// counts of views are exact.

function startingState() {
  return {
    positions: data.thresholds.map((threshold) => threshold.at),
    minimumViews: data.rules.minimum_views,
    referenceMustPass: data.rules.reference_must_pass,
  };
}

function valueOf(state, index) {
  return data.thresholds[index].stops[state.positions[index]];
}

// For each check of a group the stop that its bins are held against, counted from the loosest: a
// picture passes when its bin is larger. A check without a threshold asks for a yes, which is 1.
function levelsOf(group, state) {
  return group.checks.map(({ threshold }) => {
    if (threshold === null) return 0;
    const { stops, upwards } = data.thresholds[threshold], at = state.positions[threshold];
    return upwards ? at : stops.length - 1 - at;
  });
}

// What a score of a view may be at a yaw: [low, high], null where nothing bounds it.
function boundsAt(state, column, yaw) {
  const { checks } = data.groups.find((group) => group.yaw === yaw);
  const check = checks.find((one) => one.column === column && one.yaw === yaw && one.threshold !== null);
  if (!check) return [null, null];
  const value = valueOf(state, check.threshold);
  switch (data.thresholds[check.threshold].comparison) {
    case "at_least": return [value, null];
    case "at_most": return [-value, value];
    case "around": return [yaw - value, yaw + value];
    case "beyond": return yaw > 0 ? [value, null] : [null, -value];
    default: throw new Error(`an unknown comparison in ${column}`);
  }
}

// For each cell, the number of the first check that fails; the number of checks where none does.
function fatesOf(group, state) {
  const levels = levelsOf(group, state);
  const fates = new Uint8Array(group.cells).fill(levels.length);
  for (let row = levels.length - 1; row >= 0; row--) {
    const bins = group.bins[row];
    for (let cell = 0; cell < fates.length; cell++) {
      if (bins[cell] <= levels[row]) fates[cell] = row;
    }
  }
  return fates;
}

function countViews(group, fates) {
  const found = { yaw: group.yaw, made: 0, passed: 0, detected: 0, reasons: {} };
  fates.forEach((fate, cell) => {
    const count = group.counts[cell], name = group.names[fate];
    found.made += count;
    if (fate > 0) found.detected += count;
    if (name === "passed") found.passed += count;
    else found.reasons[name] = (found.reasons[name] || 0) + count;
  });
  return found;
}

// What becomes of an identity that has these cells: the verdict, and how many views pass.
function judgeIdentity(arrays, fates, state, cellOf) {
  const passes = (index) => cellOf(index) >= 0 && fates[index][cellOf(index)] === arrays.groups[index].names.length - 1;
  let passing = 0;
  for (let index = 1; index < arrays.groups.length; index++) passing += passes(index);
  let reason = passing < state.minimumViews ? "too_few_views" : null;
  const own = arrays.groups[0].names[fates[0][cellOf(0)]];
  if (state.referenceMustPass && own !== "passed") reason = own;
  return { reason, passing, passes };
}

// One row of numbers per sample held, and the reasons over all of them.
function countHeld(arrays, fates, state) {
  const yaws = arrays.groups.length - 1;
  const rows = [], reasons = {};
  for (let identity = 0; identity < arrays.second.length; identity++) {
    if (!arrays.second[identity]) rows.push({ sample: 0, identities: 0, views: new Uint8Array(yaws) });
    const row = rows[rows.length - 1];
    const cellOf = (index) => arrays.held[index][identity] - 1;
    const { reason, passes } = judgeIdentity(arrays, fates, state, cellOf);
    if (reason === null) {
      row.sample = 1;
      row.identities += 1;
      for (let index = 0; index < yaws; index++) row.views[index] += passes(index + 1);
    } else reasons[reason] = (reasons[reason] || 0) + 1;
  }
  return { rows, reasons };
}

// The count over the whole run of what `of` counts in a sample. With every sample at hand it is a
// sum; otherwise the known count of the starting rules plus the difference, estimated from the
// samples held, with the half width of its 95 % interval: 3 in n at least, as none seen is not none.
function estimate(now, start, known, of) {
  if (data.identities.all) return { count: now.rows.reduce((total, row) => total + of(row), 0), margin: 0 };
  if (now === start) return { count: known, margin: 0 };
  const n = Math.max(now.rows.length, 1), all = data.stats.funnel.candidates;
  let total = 0, squares = 0;
  now.rows.forEach((row, i) => {
    const difference = of(row) - of(start.rows[i]);
    total += difference;
    squares += difference * difference;
  });
  const error = Math.sqrt(Math.max(squares - (total * total) / n, 0) / Math.max(n - 1, 1) / n);
  return {
    count: Math.max(Math.round(known + (all * total) / n), 0),
    margin: Math.ceil(all * Math.max(1.96 * error, 3 / n)),
  };
}

function evaluate(arrays, state, start) {
  const fates = arrays.groups.map((group) => fatesOf(group, state));
  const yaws = arrays.groups.slice(1).map((group, index) => countViews(group, fates[index + 1]));
  const moved = start && JSON.stringify(state) !== JSON.stringify(startingState());
  const held = start && !moved ? start.held : countHeld(arrays, fates, state);
  const base = start ? start.held : held, funnel = data.stats.funnel;
  const sum = (row) => row.views.reduce((a, b) => a + b, 0);
  yaws.forEach((yaw, index) => {
    const known = data.stats.yaws.find((other) => other.yaw === yaw.yaw);
    yaw.kept = estimate(held, base, known ? known.kept : 0, (row) => row.views[index]);
  });
  return {
    fates, yaws, held,
    made: yaws.reduce((a, yaw) => a + yaw.made, 0),
    detected: yaws.reduce((a, yaw) => a + yaw.detected, 0),
    passed: yaws.reduce((a, yaw) => a + yaw.passed, 0),
    samples: estimate(held, base, funnel.samples_kept, (row) => row.sample),
    identities: estimate(held, base, funnel.identities_kept, (row) => row.identities),
    views: estimate(held, base, funnel.views_kept, sum),
  };
}

// The rules as `--rules` takes them. The identity curve gets its points at the run's own yaws.
function toToml(state) {
  const values = structuredClone(data.settings), curves = {};
  data.thresholds.forEach(({ key, angle }, index) => {
    if (angle === null) values[key] = valueOf(state, index);
    else (curves[key] = curves[key] || []).push([angle, valueOf(state, index)]);
  });
  for (const [key, points] of Object.entries(curves)) {
    points.sort((a, b) => a[0] - b[0]);
    if (points[0][0] !== 0) points.unshift([0, points[0][1]]);
    values[key] = points;
  }
  values.minimum_views = state.minimumViews;
  values.reference_must_pass = state.referenceMustPass;
  const plainName = (text) => (/^[A-Za-z0-9_-]+$/.test(text) ? text : JSON.stringify(text));
  const lines = [];
  let opened = "";
  for (const [key, value] of Object.entries(values)) {
    const [section, ...rest] = key.split("."), name = rest.pop();
    const header = name === undefined ? "" : [section, ...(rest.length ? [plainName(rest.join("."))] : [])].join(".");
    if (header !== opened) lines.push("", `[${header}]`);
    opened = header;
    lines.push(`${name === undefined ? key : name} = ${JSON.stringify(value)}`);
  }
  return `${lines.join("\n")}\n`;
}
