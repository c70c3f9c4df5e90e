// What the page was made of: the JSON of data.py, unpacked. A row is one task of one run; a line of the table holds the
// rows of one model that was asked in one way; printed lines are a paper's.

function unpacked(text) {
  const packed = JSON.parse(text);
  const word = (index) => (index === null ? null : packed.strings[index]);
  const rows = packed.rows.map(([run, task, cells, card, rank, of, group, paper]) => ({
    run: word(run),
    task,
    cells,
    card: card.map(word),
    rank,
    of,
    group,
    paper,
    printed: run === null,
  }));
  const lines = packed.lines.map(([model, detail, steered, backend, verified, printed, members]) => {
    const line = {
      model: word(model),
      detail: word(detail),
      steered,
      backend: word(backend),
      verified,
      printed,
      cells: new Map(members.map((index) => [rows[index].task, rows[index]])),
    };
    line.text = `${line.model} ${line.detail ?? ""}`.toLowerCase();
    return line;
  });
  // task -> measures that any of its rows has
  const known = packed.tasks.map(() => new Set());
  for (const row of rows) for (const measure of Object.keys(row.cells)) known[row.task].add(Number(measure));
  const byTask = packed.tasks.map(() => []);
  for (const row of rows) byTask[row.task].push(row);
  return { ...packed, rows, lines, known, byTask };
}

// Where the answers of a row are looked at, or null. more: of the viewer's own address, such as "&show=wrong".
function answersOf(contents, row, more = "") {
  const viewer = contents.viewers[row.run];
  if (viewer === undefined) return null;
  const [address, number] = viewer;
  return `${address}#${encodeURIComponent(contents.tasks[row.task].name)}?run=${number}${more}`;
}

// The value of a measure in a line's cell, or null.
function valueIn(line, task, measure) {
  return line.cells.get(task)?.cells[measure]?.[0] ?? null;
}
