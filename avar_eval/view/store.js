
// The data: lists of rows and their parts, loaded by script elements when they are first needed.
const page = JSON.parse(document.getElementById("runs").textContent);
const FILE = /^\d+-\d+(?:-\d+)?$/;
const MOST_PARTS = 40; // of the parts that were last used
const addresses = (window.trustedTypes ?? { createPolicy: (_, rules) => rules }).createPolicy("viewer", {
  createScriptURL: (name) => {
    if (!FILE.test(name)) throw new Error(`no file of data: ${name}`);
    return `data/${name}.js`;
  },
});
const waiting = new Map();
const kept = new Map();

window.viewer = {
  take(name, text) {
    const resolve = waiting.get(name);
    waiting.delete(name);
    resolve?.(JSON.parse(text));
  },
};

function load(name) {
  let found = kept.get(name);
  kept.delete(name);
  if (!found) {
    found = new Promise((resolve, reject) => {
      const script = document.createElement("script");
      const end = (problem) => {
        script.remove();
        if (waiting.delete(name)) {
          kept.delete(name);
          reject(new Error(`data/${name}.js ${problem}: copy the whole folder, or make the page anew`));
        }
      };
      waiting.set(name, resolve);
      script.onload = () => end("is damaged");
      script.onerror = () => end("is not there");
      script.src = addresses.createScriptURL(name);
      document.head.append(script);
    });
  }
  kept.set(name, found);
  for (const old of kept.keys()) {
    if (kept.size <= MOST_PARTS) break;
    kept.delete(old);
  }
  return found;
}

function taskOf(run, task) {
  return Object.hasOwn(run.tasks, task) ? run.tasks[task] : null;
}

async function detailsOf(run, task, line) {
  return (await load(`${taskOf(run, task).data}-${line.part}`))[line.place];
}

// What an address can hold: half of a surrogate pair stands as its code.
const rowName = (line) => (line.sample ? `${line.id}\n${line.sample}` : line.id).replace(/[\ud800-\udfff]/gu, escaped);

// The rows of one run, or of two side by side: a is the first run's line, b the other's, either may lack.
async function pairs(task, first, other) {
  const lines = await load(taskOf(first, task).data);
  const rows = lines.map((line, index) => ({ name: rowName(line), index, a: line, b: null }));
  if (!other || !taskOf(other, task)) return rows;
  const byName = new Map(rows.map((row) => [row.name, row]));
  for (const line of await load(taskOf(other, task).data)) {
    const row = byName.get(rowName(line));
    if (row) row.b = line;
    else rows.push({ name: rowName(line), index: rows.length, a: null, b: line });
  }
  return rows;
}
