// The page's state is its address, so that what somebody sees can be sent to others:
// #text=avar&benchmarks=shapes&measures=score&measures=vas&backend=vllm&steered=no&status=verified&paper=no
// &sort=up,vas,shapes

function readAddress(contents, state) {
  const given = new URLSearchParams(location.hash.slice(1));
  const names = {
    benchmarks: contents.tasks.map(({ name }) => name),
    measures: contents.measures.map(({ key }) => key),
  };
  for (const name of ["text", "backend", "steered", "status"]) state[name] = given.get(name) ?? "";
  state.paper = given.get("paper") !== "no";
  for (const [name, key] of [
    ["benchmarks", "tasks"],
    ["measures", "measures"],
  ]) {
    if (!given.has(name)) continue;
    const wanted = new Set(given.getAll(name));
    state[key] = new Set([...names[name].keys()].filter((index) => wanted.has(names[name][index])));
  }
  const [direction, measure, ...task] = (given.get("sort") ?? "").split(",");
  const by = {
    task: names.benchmarks.indexOf(task.join(",")),
    measure: names.measures.indexOf(measure),
    descending: direction === "down",
  };
  if (direction && measure === "model") state.sort = { ...by, task: null, measure: null };
  else if (by.task >= 0 && by.measure >= 0) state.sort = by;
}

function writeAddress(contents, state, initial) {
  const said = new URLSearchParams();
  for (const name of ["text", "backend", "steered", "status"]) if (state[name]) said.set(name, state[name]);
  if (!state.paper) said.set("paper", "no");
  const equal = (one, other) => one.size === other.size && [...one].every((index) => other.has(index));
  if (!equal(state.tasks, initial.tasks))
    for (const index of state.tasks) said.append("benchmarks", contents.tasks[index].name);
  if (!equal(state.measures, initial.measures))
    for (const index of state.measures) said.append("measures", contents.measures[index].key);
  if (state.sort) {
    const { task, measure, descending } = state.sort;
    const by = task === null ? "model" : `${contents.measures[measure].key},${contents.tasks[task].name}`;
    said.set("sort", `${descending ? "down" : "up"},${by}`);
  }
  history.replaceState(null, "", said.size ? `#${said}` : location.pathname + location.search);
}
