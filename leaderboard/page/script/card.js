// The protocol card: all that a row carries, what the paper prints of this model, and what it may not be compared with.

function buildCard(contents) {
  const dialog = document.getElementById("card");
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });

  return function openCard(line, row) {
    const task = contents.tasks[row.task];
    const close = element("button", { type: "button", class: "button", "aria-label": "Close" }, "Close");
    close.addEventListener("click", () => dialog.close());
    const parts = [element("header", {}, element("h2", { id: "card-title" }, `${line.model} · ${task.name}`), close)];
    if (row.printed)
      parts.push(element("p", { class: "notice" }, `As printed in ${contents.source}; not measured here.`));
    if (line.detail) parts.push(element("p", { class: "caption" }, line.detail));
    const answers = answersOf(contents, row);
    if (answers !== null) {
      const wrong = element("a", { href: answersOf(contents, row, "&show=wrong") }, "the wrong ones");
      parts.push(element("p", {}, element("a", { href: answers }, "Look at every answer"), ", or at ", wrong));
    }
    parts.push(numbers(contents, row));
    if (row.paper !== null) parts.push(besidePaper(contents, row));
    if (row.group !== null) parts.push(ranked(contents, row));
    const card = contents.card.flatMap((label, index) =>
      row.card[index] === null ? [] : [element("dt", {}, label), element("dd", {}, row.card[index])],
    );
    if (card.length)
      parts.push(
        element("h3", {}, row.printed ? "What the paper says of it" : "How it was asked"),
        element("dl", {}, ...card),
      );
    dialog.replaceChildren(...parts);
    dialog.showModal();
    dialog.scrollTop = 0;
  };
}

function numbers(contents, row) {
  const head = element(
    "thead",
    {},
    element(
      "tr",
      {},
      ...["measure", "value", "95 % interval", "n"].map((label) => element("th", { scope: "col" }, label)),
    ),
  );
  const body = element("tbody");
  contents.measures.forEach((measure, index) => {
    const cell = row.cells[index];
    if (!cell) return;
    const [value, low, high, n] = cell;
    const unit = unitOf(measure);
    body.append(
      element(
        "tr",
        {},
        element("td", { title: measure.about }, measure.label),
        element("td", {}, `${formatted(value, measure, row.printed)}${unit ? ` ${unit}` : ""}`),
        element("td", {}, low === null || high === null ? "–" : interval(low, high, measure)),
        element("td", {}, n === null ? "–" : String(n)),
      ),
    );
  });
  return element("table", {}, head, body);
}

function besidePaper(contents, row) {
  const paper = contents.rows[row.paper];
  const lines = [];
  for (const index of Object.keys(paper.cells)) {
    const measure = contents.measures[index];
    const [ours, printed] = [row.cells[index]?.[0] ?? null, paper.cells[index][0]];
    const difference = (measure.unit === "percent" ? 100 : 1) * (ours - printed);
    const beside = ours === null ? "" : `, ours ${difference < 0 ? "" : "+"}${difference.toFixed(1)}`;
    lines.push(element("p", {}, `${measure.label}: ${formatted(printed, measure, true)} as printed${beside}`));
  }
  return element("div", {}, element("h3", {}, `The same model in ${contents.source}`), ...lines);
}

// Among which rows it is ranked, and what sets them apart from the benchmark's other rows.
function ranked(contents, row) {
  const [letter, apart] = contents.groups[row.group];
  const rank =
    row.rank === null
      ? "Not ranked: it has no score, or the model was trained on this data."
      : row.of > 1
        ? `${row.rank} of ${row.of} rows that were asked alike${letter ? ` (group ${letter})` : ""}.`
        : "No other row of this benchmark was asked alike.";
  return element(
    "div",
    {},
    element("h3", {}, "Rank"),
    element("p", {}, rank),
    ...(apart ? [element("p", {}, `Asked apart from the others by: ${apart}.`)] : []),
  );
}
