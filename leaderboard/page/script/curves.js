// Score and VAS over the steps of a training: a panel a measure, a line a benchmark.

function buildCurves(contents) {
  if (!contents.curves.length) return () => {};
  const section = document.getElementById("training");
  section.hidden = false;
  const figure = element("figure");
  const notes = element("p", { class: "caption" });
  let current = contents.curves[0];
  let task = "";
  const tasks = element("select", { "aria-label": "Benchmark of the training" });
  const runs = choice(
    "Training",
    contents.curves.map(([run], index) => [String(index), contents.strings[run]]),
    "0",
    (value) => {
      current = contents.curves[Number(value)];
      listTasks();
      draw();
    },
  );
  tasks.addEventListener("change", () => {
    task = tasks.value;
    draw();
  });
  section.append(element("div", { class: "choices" }, runs, tasks), figure, notes);

  function listTasks() {
    const of = [...new Set(current[1].map(([, row]) => contents.rows[row].task))];
    task = of.length === 1 ? String(of[0]) : "";
    const options =
      of.length === 1
        ? []
        : [["", of.length > SERIES.length ? `the first ${SERIES.length} benchmarks` : "every benchmark"]];
    tasks.replaceChildren(
      ...[...options, ...of.map((index) => [String(index), contents.tasks[index].name])].map(([value, label]) =>
        element("option", { value }, label),
      ),
    );
  }

  function draw() {
    const all = [...new Set(current[1].map(([, row]) => contents.rows[row].task))];
    const shown = task === "" ? all.slice(0, SERIES.length) : [Number(task)];
    const series = shown.map((of) => ({ of, points: current[1].filter(([, row]) => contents.rows[row].task === of) }));
    const panels = contents.measures
      .map((measure, index) => ({ measure, index }))
      .filter(
        ({ measure, index }) =>
          measure.curve && series.some(({ points }) => points.some(([, row]) => contents.rows[row].cells[index])),
      );
    const width = Math.min(860, Math.max(300, section.clientWidth));
    figure.replaceChildren(
      ...panels.map(({ measure, index }, place) => panel(series, measure, index, width, place === panels.length - 1)),
      legend(series),
    );
    const sizes = [...new Set(series.flatMap(({ points }) => points.map(([, row]) => nOf(contents.rows[row]))))];
    const counts = sizes.sort((a, b) => a - b).join(", ");
    notes.textContent = `Bars are 95 % intervals. Step 0 is the base model. n = ${counts}.`;
  }

  function nOf(row) {
    return Object.values(row.cells)[0][3];
  }

  function panel(series, measure, index, width, last) {
    const [left, right, top, height] = [52, width - 14, 26, 190];
    const bottom = top + height;
    const svg = frame(width, bottom + (last ? 40 : 12), `${axisLabel(measure)} over steps`);
    const cells = series
      .flatMap(({ points }) => points.map(([step, row]) => [step, contents.rows[row].cells[index]]))
      .filter(([, cell]) => cell);
    const y = axis(
      cells.flatMap(([, cell]) => cell.slice(0, 3)).filter((value) => value !== null),
      measure,
      bottom,
      top,
      5,
    );
    const steps = axis(
      cells.map(([step]) => step),
      { unit: "" },
      left,
      right,
      width < 500 ? 5 : 9,
    );
    svg.append(shape("text", { x: 0, y: 14, class: "label" }, axisLabel(measure)));
    grid(svg, y, left, right);
    if (last) {
      tickLabels(
        svg,
        steps.ticks.filter(({ label }) => Number(label) >= 0 && Number.isInteger(Number(label))),
        bottom,
      );
      svg.append(shape("text", { x: right, y: bottom + 36, "text-anchor": "end" }, "step of the optimizer"));
    }
    series.forEach(({ points }, number) => {
      const colour = SERIES[number % SERIES.length];
      const known = points
        .filter(([, row]) => contents.rows[row].cells[index])
        .map(([step, row]) => ({ step, row: contents.rows[row], cell: contents.rows[row].cells[index] }));
      svg.append(
        shape("polyline", {
          points: known.map(({ step, cell }) => `${steps.at(step)},${y.at(cell[0])}`).join(" "),
          fill: "none",
          stroke: colour,
          "stroke-width": 2,
        }),
      );
      for (const { step, row, cell } of known) {
        const [value, low, high] = cell;
        if (low !== null && high !== null) svg.append(errorBar(true, steps.at(step), y.at(low), y.at(high), colour));
        const point = marker(number, steps.at(step), y.at(value));
        point.append(
          shape("title", {}, `${contents.tasks[row.task].name}, step ${step}: ${formatted(value, measure)}`),
        );
        svg.append(point);
      }
    });
    return svg;
  }

  function legend(series) {
    const entries = series.map(({ of }, number) => {
      const key = shape("svg", { viewBox: "0 0 12 12", class: "key", "aria-hidden": "true" }, marker(number, 6, 6));
      return element("span", {}, key, contents.tasks[of].name);
    });
    return element("figcaption", { class: "keys" }, ...entries);
  }

  listTasks();
  draw();
  return draw;
}
