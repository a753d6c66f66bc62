// The contact sheets: pictures with what the rules say of them, now and when the report was made.

const SHOWN_SCORES = {
  sharpness: "sharp", sharpness_ratio: "ratio", aesthetic: "aesth.",
  expression: "expr.",
  identity_cosine: "cosine", measured_yaw: "yaw", measured_pitch: "pitch", measured_roll: "roll",
};

function picture(index, title) {
  if (index === null) return el("span", { class: "lost" }, "no picture");
  return el("img", { src: data.thumbnails[index], alt: title, width: 128, height: 128 });
}

// Whether a score decides about a card's picture: the roll of a profile, for one, says nothing.
function isTested(card, name) {
  const group = data.groups.find(({ yaw }) => yaw === card.yaw);
  return group.checks.some(({ column }) => column === name);
}

function drawCards(holder, fate) {
  holder.replaceChildren(...data.cards.map((card, index) => ({ card, index }))
    .filter(({ card }) => card.fate === fate)
    .map(({ card, index }) => el("article", { "data-card": index },
      el("div", { class: "pictures" }, picture(card.reference, "reference"),
        card.yaw === null ? null : picture(card.picture, `view at ${degrees(card.yaw)}`)),
      el("p", { class: "mark" }),
      el("p", { class: "key", title: card.key }, card.key),
      el("p", { class: "muted small caption", title: card.caption },
        `identity ${card.identity}`, card.caption ? `: ${card.caption}` : ""),
      card.detail ? el("p", { class: "detail" }, card.detail) : null,
      el("div", { class: "numbers" }, Object.entries(SHOWN_SCORES)
        .filter(([name]) => card.scores[name] !== undefined && isTested(card, name))
        .map(([name, title]) => el("span", { "data-column": name }, title, el("b", {}, trim(card.scores[name]))))))));
}

// What the rules, as they stand, say of a card.
function verdictOf(card, arrays, now, state) {
  const cellOf = (index) => card.cells[index];
  const { reason, passing } = judgeIdentity(arrays, now.fates, state, cellOf);
  if (card.yaw === null) {
    return reason === null ? ["passed", `identity kept, ${passing} views`] : ["left-out", `left out: ${plain(reason)}`];
  }
  const group = 1 + data.yaws.indexOf(card.yaw);
  const fate = arrays.groups[group].names[now.fates[group][cellOf(group)]];
  if (fate !== "passed") return [fate, plain(fate)];
  return reason === null ? ["passed", "accepted"] : ["left-out", `passes, identity left out: ${plain(reason)}`];
}

// The score that gives the reason for a rejection.
function failingColumn(card, arrays, state) {
  const index = card.yaw === null ? 0 : 1 + data.yaws.indexOf(card.yaw);
  const group = arrays.groups[index], levels = levelsOf(group, state);
  const first = group.checks.find((_, row) => group.bins[row][card.cells[index]] <= levels[row]);
  return first && first.yaw === card.yaw ? first.column : null;
}

function markCards(holder, arrays, now, state) {
  for (const article of holder.children) {
    const card = data.cards[Number(article.dataset.card)];
    const [fate, text] = verdictOf(card, arrays, now, state);
    const mark = article.querySelector(".mark");
    article.className = `is-${fate === "passed" ? "passed" : fate === "left-out" ? "left-out" : "rejected"}`;
    const column = failingColumn(card, arrays, state);
    for (const score of article.querySelectorAll("[data-column]")) {
      score.classList.toggle("fails", score.dataset.column === column);
    }
    mark.textContent = `${card.yaw === null ? "reference" : degrees(card.yaw)} · ${text}`;
  }
}
