// What is shown: the state, the controls that change it, and the lines that it leaves.

const MOST_BENCHMARKS = 16; // shown at first; the others are a click away

function initialState(contents) {
  const tasks = contents.tasks.map((_, index) => index);
  return {
    text: "",
    backend: "",
    steered: "",
    status: "",
    paper: true,
    tasks: new Set(tasks.slice(0, MOST_BENCHMARKS)),
    measures: new Set(contents.measures.flatMap((measure, index) => (measure.first ? [index] : []))),
    sort: null, // {task, measure, descending}; task null: by model
  };
}

// What is shown: lines that fit the filters, in their order; columns, those of the chosen ones in which some line has a
// value; by, the column that the lines are sorted by.
function shownOf(contents, state) {
  const chosen = contents.known.flatMap((known, task) =>
    state.tasks.has(task)
      ? contents.measures.flatMap((_, measure) =>
          state.measures.has(measure) && known.has(measure) ? [{ task, measure }] : [],
        )
      : [],
  );
  const words = state.text.toLowerCase().split(/\s+/).filter(Boolean);
  const lines = contents.lines.filter(
    (line) =>
      (state.paper || !line.printed) &&
      words.every((word) => line.text.includes(word)) &&
      (state.backend === "" || line.backend === state.backend) &&
      (state.steered === "" || (!line.printed && line.steered === (state.steered === "yes"))) &&
      (state.status === "" || (!line.printed && line.verified === (state.status === "verified"))) &&
      chosen.some(({ task, measure }) => valueIn(line, task, measure) !== null),
  );
  const columns = chosen.filter(({ task, measure }) => lines.some((line) => valueIn(line, task, measure) !== null));
  const by = state.sort ?? { ...(columns[0] ?? { task: null, measure: null }), descending: true };
  return { columns, lines: sorted(lines, by), by };
}

function sorted(lines, { task, measure, descending }) {
  const direction = descending ? -1 : 1;
  const names = new Intl.Collator("en", { numeric: true, sensitivity: "base" });
  if (task === null) return lines.sort((a, b) => direction * names.compare(a.text, b.text));
  const keyed = lines.map((line) => ({ line, value: valueIn(line, task, measure) }));
  // what has no value stands last in both directions
  keyed.sort((a, b) => (a.value === null) - (b.value === null) || direction * (a.value - b.value));
  return keyed.map(({ line }) => line);
}

function buildFilters(contents, state, changed) {
  const form = document.getElementById("filters");
  form.addEventListener("submit", (event) => event.preventDefault());
  const search = element("input", {
    type: "search",
    placeholder: "Model, protocol, revision …",
    "aria-label": "Filter by model",
  });
  search.value = state.text;
  search.addEventListener("input", () => {
    state.text = search.value;
    changed();
  });
  form.append(search);
  form.append(
    menu(
      "Benchmarks",
      contents.tasks.map((task, index) => [index, task.name, task.about]),
      state.tasks,
      changed,
    ),
  );
  form.append(
    menu(
      "Measures",
      contents.measures.flatMap((measure, index) => (measure.known ? [[index, measure.label, measure.about]] : [])),
      state.measures,
      changed,
    ),
  );
  // a choice where rows differ
  const offer = (name, key, every, options) => {
    if (options.length < 2) return;
    const chosen = (value) => {
      state[key] = value;
      changed();
    };
    form.append(choice(name, [["", every], ...options], state[key], chosen));
  };
  const valuesOf = (key) => [...new Set(contents.lines.filter((line) => !line.printed).map((line) => line[key]))];
  const backends = valuesOf("backend").filter((name) => name !== null);
  offer(
    "Backend",
    "backend",
    "every backend",
    backends.sort().map((name) => [name, name]),
  );
  const steered = valuesOf("steered").sort();
  offer(
    "Steering",
    "steered",
    "steered or not",
    steered.map((yes) => (yes ? ["yes", "steered"] : ["no", "not steered"])),
  );
  const verified = valuesOf("verified").sort();
  offer(
    "Status",
    "status",
    "verified or not",
    verified.map((yes) => (yes ? ["verified", "verified"] : ["reported", "as reported"])),
  );
  if (contents.lines.some((line) => line.printed)) {
    const box = element("input", { type: "checkbox", checked: state.paper });
    box.addEventListener("change", () => {
      state.paper = box.checked;
      changed();
    });
    form.append(element("label", { class: "check" }, box, "the paper’s rows"));
  }
  const download = element("button", { type: "button", class: "button" }, "Download CSV");
  download.addEventListener("click", () => saveCsv(contents, state));
  form.append(download);
}

function choice(name, options, value, chosen) {
  const made = element(
    "select",
    { "aria-label": name },
    ...options.map(([of, label]) => element("option", { value: of }, label)),
  );
  made.value = value;
  made.addEventListener("change", () => chosen(made.value));
  return made;
}

function menu(name, options, chosen, changed) {
  const boxes = options.map(([index, label, about]) => {
    const box = element("input", { type: "checkbox", checked: chosen.has(index) });
    box.addEventListener("change", () => {
      if (box.checked) chosen.add(index);
      else chosen.delete(index);
      update();
    });
    return [
      index,
      box,
      element(
        "label",
        { class: "check" },
        box,
        element("span", {}, label, ...(about ? [element("small", {}, about)] : [])),
      ),
    ];
  });
  const title = element("summary");
  const update = () => {
    title.textContent = `${name}: ${chosen.size} of ${options.length}`;
    changed();
  };
  const setAll = (checked) => {
    boxes.forEach(([index, box]) => {
      box.checked = checked;
      if (checked) chosen.add(index);
      else chosen.delete(index);
    });
    update();
  };
  const all = element("button", { type: "button", class: "button" }, "all");
  const none = element("button", { type: "button", class: "button" }, "none");
  all.addEventListener("click", () => setAll(true));
  none.addEventListener("click", () => setAll(false));
  title.textContent = `${name}: ${chosen.size} of ${options.length}`;
  const made = element(
    "details",
    { class: "menu" },
    title,
    element(
      "div",
      { class: "options" },
      element("div", { class: "all" }, all, none),
      ...boxes.map(([, , label]) => label),
    ),
  );
  document.addEventListener("click", (event) => {
    if (!made.contains(event.target)) made.open = false;
  });
  made.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      made.open = false;
      title.focus();
    }
  });
  return made;
}
