// The shown lines as CSV, a row each task, shares as fractions. A text that a spreadsheet would compute stands behind
// an apostrophe.
function saveCsv(contents, state) {
  const { columns, lines } = shownOf(contents, state);
  const tasks = [...new Set(columns.map((column) => column.task))];
  const measures = [...new Set(columns.map((column) => column.measure))].sort((a, b) => a - b);
  const quoted = (value) => {
    if (value === null || value === undefined) return "";
    if (typeof value === "number") return String(value);
    const text = /^[\s\u0000-\u001f]*[=+\-@\uff1d\uff0b\uff0d\uff20]/.test(value) ? `'${value}` : value;
    return `"${text.replaceAll('"', '""')}"`;
  };
  const header = [
    "model",
    "detail",
    "source",
    "task",
    "run_id",
    ...measures.flatMap((index) => {
      const { key } = contents.measures[index];
      return [key, `${key}_low`, `${key}_high`, `${key}_n`];
    }),
    ...contents.card,
  ];
  const out = [header];
  for (const line of lines) {
    for (const task of tasks) {
      const row = line.cells.get(task);
      if (!row) continue;
      const numbers = measures.flatMap((index) => {
        const cell = row.cells[index] ?? [];
        return [cell[0], cell[1], cell[2], cell[3]];
      });
      const source = line.printed ? contents.source : line.verified ? "verified" : "as reported";
      out.push([line.model, line.detail, source, contents.tasks[task].name, row.run, ...numbers, ...row.card]);
    }
  }
  const text = out.map((cells) => cells.map(quoted).join(",")).join("\n") + "\n";
  const link = element("a", {
    href: URL.createObjectURL(new Blob([text], { type: "text/csv" })),
    download: "leaderboard.csv",
  });
  link.click();
  URL.revokeObjectURL(link.href);
}
