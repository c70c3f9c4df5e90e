// Score against a measure of looking over models, of one benchmark; the numbers are computed where the page is made.

const MOST_LABELS = 40;

function buildCorrelation(contents) {
  if (!contents.correlations.length) return () => {};
  const section = document.getElementById("correlation");
  section.hidden = false;
  const names = new Map(contents.lines.flatMap((line) => [...line.cells.values()].map((row) => [row, line])));
  const figure = element("figure");
  const notes = element("p", { class: "caption" });
  let current = contents.correlations[0];
  const chosen = choice(
    "Benchmark and measure",
    contents.correlations.map((one, index) => [String(index), one.title]),
    "0",
    (value) => {
      current = contents.correlations[Number(value)];
      draw();
    },
  );
  section.append(element("div", { class: "choices" }, chosen), figure, notes);

  function draw() {
    const across = contents.measures[current.x];
    const up = contents.measures[current.y];
    const points = current.points.map(([ofX, ofY]) => {
      const row = contents.rows[ofY];
      return { row, line: names.get(row), x: contents.rows[ofX].cells[current.x], y: row.cells[current.y] };
    });
    const width = Math.min(860, Math.max(300, section.clientWidth));
    const height = width < 500 ? 330 : 420;
    const [left, right, top, bottom] = [52, width - 14, 26, height - 44];
    const svg = frame(width, height, `${axisLabel(up)} against ${axisLabel(across)}, n = ${points.length}`);
    const x = axis(
      points.flatMap((point) => point.x.slice(0, 3)).filter((value) => value !== null),
      across,
      left,
      right,
      width < 500 ? 4 : 8,
    );
    const y = axis(
      points.flatMap((point) => point.y.slice(0, 3)).filter((value) => value !== null),
      up,
      bottom,
      top,
      6,
    );
    svg.append(shape("text", { x: 0, y: 14, class: "label" }, axisLabel(up)));
    grid(svg, y, left, right);
    tickLabels(svg, x.ticks, bottom);
    svg.append(shape("text", { x: right, y: height - 6, "text-anchor": "end", class: "label" }, axisLabel(across)));
    const taken = points.map((point) => around(x.at(point.x[0]), y.at(point.y[0])));
    for (const point of points.length > MOST_LABELS ? [] : points) {
      const [at, level] = [x.at(point.x[0]), y.at(point.y[0])];
      const colour = "var(--quiet)";
      if (point.y[1] !== null) {
        const [low, high] = [y.at(point.y[1]), y.at(point.y[2])];
        taken.push({ left: at - 3, right: at + 3, top: high, bottom: low });
        svg.append(errorBar(true, at, low, high, colour));
      }
      if (point.x[1] !== null) {
        const [low, high] = [x.at(point.x[1]), x.at(point.x[2])];
        taken.push({ left: low, right: high, top: level - 3, bottom: level + 3 });
        svg.append(errorBar(false, level, low, high, colour));
      }
    }
    for (const point of points) {
      const [at, level] = [x.at(point.x[0]), y.at(point.y[0])];
      const dot = point.row.printed
        ? shape("circle", { cx: at, cy: level, r: 5, class: "printed" })
        : marker(0, at, level);
      const [name, printed] = [
        point.line.detail ? `${point.line.model} (${point.line.detail})` : point.line.model,
        point.row.printed,
      ];
      dot.append(
        shape("title", {}, `${name}: ${formatted(point.x[0], across, printed)}, ${formatted(point.y[0], up, printed)}`),
      );
      if (points.length > MOST_LABELS) dot.setAttribute("fill-opacity", "0.6");
      svg.append(dot);
      if (points.length <= MOST_LABELS) {
        const text = placed(point.line.model, at, level, taken, left, right, top, bottom);
        if (text) svg.append(text);
      }
    }
    figure.replaceChildren(svg);
    notes.textContent = [spoken(current, points), ...current.notes].join(" ");
  }

  function around(x, y) {
    return { left: x - 6, right: x + 6, top: y - 6, bottom: y + 6 };
  }

  // The first place around a point where its name lies on nothing else; without one only the point's title has it.
  function placed(name, x, y, taken, left, right, top, bottom) {
    const short = name.length > 30 ? `${name.slice(0, 29)}…` : name;
    const size = { width: 6.4 * short.length, height: 13 };
    for (const [sideways, down] of [
      [9, -7],
      [9, 16],
      [-9 - size.width, -7],
      [-9 - size.width, 16],
      [9, 4],
      [-9 - size.width, 4],
      [-size.width / 2, -10],
      [-size.width / 2, 20],
    ]) {
      const box = {
        left: x + sideways,
        right: x + sideways + size.width,
        top: y + down - size.height + 3,
        bottom: y + down + 3,
      };
      const free =
        box.left >= left &&
        box.right <= right &&
        box.top >= top - 8 &&
        box.bottom <= bottom &&
        taken.every(
          (other) =>
            other.right < box.left || other.left > box.right || other.bottom < box.top || other.top > box.bottom,
        );
      if (!free) continue;
      taken.push(box);
      return shape("text", { x: box.left, y: y + down, class: "label" }, short);
    }
    return null;
  }

  function spoken({ r, low, high, p }, points) {
    const n = `n = ${points.length} model${points.length === 1 ? "" : "s"}`;
    if (r === null)
      return points.length < 3
        ? `${n}: a correlation needs three.`
        : `${n}: no correlation, all values of one axis are equal.`;
    const within = low === null ? "no interval" : `95 % interval ${low.toFixed(3)} to ${high.toFixed(3)}`;
    const chance = p === null ? "" : `; p ${p < 0.001 ? "< 0.001" : `= ${p.toFixed(3)}`}`;
    const few = points.length < 10 ? " So few models settle nothing." : "";
    return `Pearson’s r = ${r.toFixed(3)} (${within}${chance}), ${n}.${few}`;
  }

  draw();
  return draw;
}
