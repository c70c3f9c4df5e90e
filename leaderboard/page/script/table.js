// The table. Only the lines in view are elements, so that 10,000 of them scroll like ten.

const LINE_HEIGHT = 56; // pixels, as in page.css
const SPARE = 8; // lines drawn above and below those in view

function buildTable(contents, state, openCard, changed) {
  const scroller = document.getElementById("scroller");
  const table = document.getElementById("board");
  const body = table.tBodies[0];
  let columns = [],
    lines = [],
    scales = [],
    by = null,
    drawn = null;

  function refresh() {
    ({ columns, lines, by } = shownOf(contents, state));
    scales = columns.map(({ task, measure }) => {
      const of = contents.byTask[task].flatMap((row) => row.cells[measure]?.slice(0, 3) ?? []);
      return scaleOf(
        of.filter((value) => value !== null),
        contents.measures[measure],
      );
    });
    const narrow = window.innerWidth <= 640;
    const widths = [narrow ? 138 : 270, ...columns.map(() => (narrow ? 104 : 120))];
    table.style.width = `${widths.reduce((sum, width) => sum + width, 0)}px`;
    table.querySelector("colgroup")?.remove();
    const group = element(
      "colgroup",
      {},
      ...widths.map((width) => {
        const column = element("col");
        column.style.width = `${width}px`;
        return column;
      }),
    );
    table.prepend(group);
    table.tHead.replaceChildren(...headings());
    table.setAttribute("aria-rowcount", String(lines.length + 2));
    drawn = null;
    scroller.scrollTop = 0;
    draw();
    const shown = lines.filter((line) => !line.printed).length;
    const printed = lines.length - shown;
    const ours = contents.lines.filter((line) => !line.printed).length;
    document.getElementById("count").textContent = [
      `${shown.toLocaleString("en")} of ${ours.toLocaleString("en")} measured here`,
      ...(printed ? [`${printed} printed`] : []),
      `${state.tasks.size} of ${contents.tasks.length} benchmarks`,
    ].join(" · ");
  }

  function headings() {
    const order = (on) => (on ? { "aria-sort": by.descending ? "descending" : "ascending" } : {});
    const arrow = (on) => (on ? (by.descending ? " ↓" : " ↑") : "");
    const model = element("button", { type: "button" }, `model${arrow(by.task === null)}`);
    model.addEventListener("click", () => sortBy({ task: null, measure: null }, false));
    const top = element(
      "tr",
      {},
      element("th", { class: "model", rowSpan: 2, scope: "col", ...order(by.task === null) }, model),
    );
    const below = element("tr");
    for (const [place, { task, measure }] of columns.entries()) {
      const { name, about } = contents.tasks[task];
      const first = startsBenchmark(place);
      if (first)
        top.append(
          element(
            "th",
            {
              class: "benchmark first",
              colSpan: columns.filter((column) => column.task === task).length,
              scope: "colgroup",
              title: about ? `${name}: ${about}` : name,
            },
            name,
          ),
        );
      const on = by.task === task && by.measure === measure;
      const of = contents.measures[measure];
      const unit = unitOf(of);
      const button = element(
        "button",
        { type: "button", title: of.about },
        `${of.label}${unit === "%" ? " %" : ""}${arrow(on)}`,
      );
      button.addEventListener("click", () => sortBy({ task, measure }, true));
      below.append(element("th", { class: first ? "first" : "", scope: "col", ...order(on) }, button));
    }
    return [top, below];
  }

  function startsBenchmark(place) {
    return place === 0 || columns[place - 1].task !== columns[place].task;
  }

  function sortBy({ task, measure }, descendingFirst) {
    const same = by.task === task && by.measure === measure;
    state.sort = { task, measure, descending: same ? !by.descending : descendingFirst };
    changed();
  }

  function draw() {
    const first = Math.max(0, Math.floor(scroller.scrollTop / LINE_HEIGHT) - SPARE);
    const last = Math.min(lines.length, first + Math.ceil(scroller.clientHeight / LINE_HEIGHT) + 2 * SPARE + 2);
    if (drawn !== null && drawn[0] === first && drawn[1] === last) return;
    drawn = [first, last];
    const rows = lines.slice(first, last).map((line, place) => lineElement(line, first + place));
    body.replaceChildren(gap(first), ...rows, gap(lines.length - last));
    if (!lines.length)
      body.replaceChildren(
        element(
          "tr",
          {},
          element(
            "td",
            { class: "model", colSpan: columns.length + 1 },
            element("div", { class: "name" }, "Nothing fits these filters."),
          ),
        ),
      );
  }

  function gap(count) {
    const made = element("tr", { class: "gap", "aria-hidden": "true" }, element("td", { colSpan: columns.length + 1 }));
    made.style.height = `${count * LINE_HEIGHT}px`;
    return made;
  }

  function lineElement(line, index) {
    const tags = [];
    if (line.printed) tags.push(element("span", { class: "tag printed", title: contents.source }, "as printed"));
    else if (line.verified)
      tags.push(element("span", { class: "tag", title: "its records were judged again" }, "verified"));
    else tags.push(element("span", { class: "tag", title: "as a results.json says, whose records are not known" }, "as reported"));
    if (line.steered) tags.push(element("span", { class: "tag" }, "steered"));
    const answers = [...line.cells.values()].map((row) => answersOf(contents, row)).find((address) => address !== null);
    if (answers !== undefined) tags.push(element("a", { class: "tag", href: answers }, "answers"));
    const detail = [...tags.flatMap((tag) => [tag, " "]), line.detail ?? ""];
    const name = element(
      "th",
      { class: "model", scope: "row", title: line.detail ? `${line.model}: ${line.detail}` : line.model },
      element("div", { class: "name" }, element("b", {}, line.model), element("small", {}, ...detail)),
    );
    const cells = columns.map((column, place) => cellElement(line, column, scales[place], startsBenchmark(place)));
    return element("tr", { class: line.printed ? "printed" : "", "aria-rowindex": String(index + 3) }, name, ...cells);
  }

  function cellElement(line, { task, measure }, scale, first) {
    const row = line.cells.get(task);
    const cell = row?.cells[measure];
    const side = first ? "first" : "";
    if (!cell) return element("td", { class: `${side} empty` }, row ? "–" : "");
    const of = contents.measures[measure];
    const parts = [];
    const ranked = of.key === "score" && row.rank !== null && row.of > 1;
    if (ranked) {
      const [letter, apart] = contents.groups[row.group];
      const title = `rank ${row.rank} of ${row.of} rows that were asked alike${apart ? ` (${apart})` : ""}`;
      const among = element("span", { class: "among" }, `/${row.of}`);
      parts.push(element("span", { class: "rank", title }, `${letter ? `${letter} ` : ""}${row.rank}`, among));
    }
    parts.push(element("span", { class: "number" }, formatted(cell[0], of, row.printed)));
    parts.push(
      element(
        "span",
        { class: "interval" },
        cell[1] === null || cell[2] === null ? "\u00a0" : interval(cell[1], cell[2], of),
      ),
    );
    parts.push(bar(cell, of, scale));
    const button = element(
      "button",
      { type: "button", class: ranked && row.rank === 1 ? "cell best" : "cell" },
      ...parts,
    );
    button.addEventListener("click", () => openCard(line, row));
    return element("td", { class: side }, button);
  }

  scroller.addEventListener("scroll", () => requestAnimationFrame(draw), { passive: true });
  new ResizeObserver(draw).observe(scroller);
  return refresh;
}
