// The trace strip: one line per request, with the time of its answer and of the push it caused.

const LINES = 40;
// A push that has not arrived after this long is reported as missing.
const PATIENCE = 1_500;

export const clock = (date = new Date()) => date.toTimeString().slice(0, 8);
export const span = (ms) => (ms < 9.95 ? `${ms.toFixed(1)} ms` : `${Math.round(ms)} ms`);

// Makes an element. The text is inserted as text, never as markup.
export function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

export class Trace {
  constructor(body, empty) {
    Object.assign(this, { body, empty, waiting: new Map(), scale: 20 });
  }

  // Begins a line. `key` names the push that should follow; without a key none is expected.
  // `silence` is the text of the line when no push came; `quiet` says that none is expected to.
  begin(label, { key = null, silence = "none", quiet = false } = {}) {
    const row = make("tr");
    const cells = {};
    row.append(make("td", "at", clock()), make("td", "what", label));
    for (const name of ["code", "trip", "push", "chart"]) {
      cells[name] = row.appendChild(make("td", name, name === "chart" ? "" : "…"));
    }
    const bar = cells.chart.appendChild(make("div", "bar"));
    cells.answered = bar.appendChild(make("i", "answered"));
    cells.pushed = bar.appendChild(make("i", "pushed"));
    const line = { row, cells, key, silence, quiet, from: performance.now() };
    if (key) {
      this.waiting.set(key, line);
      line.timer = setTimeout(() => this.#give(line), PATIENCE);
    } else cells.push.textContent = "–";
    this.body.prepend(row);
    this.empty.hidden = true;
    while (this.body.children.length > LINES) this.body.lastChild.remove();
    return line;
  }

  answered(line, status, good) {
    const ms = performance.now() - line.from;
    line.cells.code.textContent = status;
    line.cells.code.dataset.good = good;
    line.cells.trip.textContent = span(ms);
    this.#draw(line, "answered", ms);
    if (!good && line.key) this.#give(line);
    return ms;
  }

  // A push arrived: its time goes into the line that waits for it.
  arrived(key) {
    const line = this.waiting.get(key);
    if (!line) return;
    this.waiting.delete(key);
    clearTimeout(line.timer);
    const ms = performance.now() - line.from;
    line.cells.push.textContent = span(ms);
    line.cells.push.dataset.good = true;
    this.#draw(line, "pushed", ms);
  }

  clear() {
    this.body.replaceChildren();
    this.waiting.clear();
    this.empty.hidden = false;
  }

  #give(line) {
    clearTimeout(line.timer);
    if (this.waiting.get(line.key) === line) this.waiting.delete(line.key);
    line.cells.push.textContent = line.silence;
    line.cells.push.dataset.good = line.quiet;
  }

  // All bars share one scale, so that lines can be compared; a slower request rescales all.
  #draw(line, name, ms) {
    line[name] = ms;
    line.row.line = line;
    this.scale = Math.max(this.scale, ms);
    for (const { line: each } of this.body.children) {
      for (const part of ["answered", "pushed"]) {
        const width = each?.[part] ? Math.max(1.5, (100 * each[part]) / this.scale) : 0;
        if (each) each.cells[part].style.width = `${width}%`;
      }
    }
  }
}
