// Making elements. Text from the run only ever becomes text.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(node.style, value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

const $ = (id) => document.getElementById(id);
const number = (value) => value.toLocaleString("en");
const percent = (part, whole) => (whole ? `${((100 * part) / whole).toFixed(1)} %` : "–");
const degrees = (yaw) => (yaw === 0 ? "0°" : `${yaw > 0 ? "+" : "−"}${Math.abs(yaw)}°`);
const plain = (name) => name.replaceAll("_", " ");
const trim = (value) => String(Number(value.toPrecision(4)));
const about = ({ count, margin }) => (margin ? `≈ ${number(count)} ± ${number(margin)}` : number(count));

// Round values that divide a range, for an axis.
function ticks(low, high, most) {
  const rough = (high - low) / most, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) found.push(i * step);
  return found;
}

// On a phone each row is a block, in which a cell says its column's name before it.
function table(head, rows, classes = []) {
  const cells = (tag, row) => row.map((cell, i) =>
    el(tag, { class: classes[i], "data-column": tag === "td" ? head[i] : null }, cell));
  return el("table", {},
    el("thead", {}, el("tr", {}, cells("th", head))),
    el("tbody", {}, rows.map((row) => el("tr", {}, cells("td", row)))));
}

// One tooltip for everything that has data-tip, for a mouse, a finger or the keyboard.
function watchTips() {
  const tip = $("tip");
  const show = (event) => {
    const owner = event.target.closest ? event.target.closest("[data-tip]") : null;
    tip.hidden = !owner;
    if (!owner) return;
    tip.textContent = owner.dataset.tip;
    const box = owner.getBoundingClientRect(), own = tip.getBoundingClientRect();
    const left = Math.min(Math.max(box.left + box.width / 2 - own.width / 2, 4), innerWidth - own.width - 4);
    const above = box.top - own.height - 6;
    Object.assign(tip.style, { left: `${left}px`, top: `${above > 0 ? above : box.bottom + 6}px` });
  };
  for (const name of ["pointerover", "pointerdown", "focusin"]) document.addEventListener(name, show);
  addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });
}

function tabs(holder, names, titles, chosen, choose) {
  holder.replaceChildren(...names.map((name, index) => el("button", {
    type: "button", role: "tab", "aria-selected": String(name === chosen), "data-name": name,
    onclick: () => {
      for (const tab of holder.children) tab.setAttribute("aria-selected", String(tab.dataset.name === name));
      choose(name);
    },
  }, titles[index])));
}
