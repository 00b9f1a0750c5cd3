"use strict";
// Two custom elements, shown in tabs of Locust's page and on a page of their own. Text goes in as text, never as markup.
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const base = new URL(".", document.currentScript.src);
  const STATES = {
    idle: "nothing was started yet", preparing: "the database and the scene are being prepared", running: "running",
    judging: "the users are gone; the books are being read", done: "done", refused: "refused",
  };

  const feed = {
    listeners: new Set(), samples: [], run: -1, state: { state: "idle", title: "", result: null }, timer: null,
    add(listener) {
      this.listeners.add(listener);
      this.timer ??= setInterval(() => this.poll(), 1000);
      this.poll();
    },
    remove(listener) {
      this.listeners.delete(listener);
      if (!this.listeners.size) { clearInterval(this.timer); this.timer = null; }
    },
    async poll() {
      let told;
      try {
        const response = await fetch(new URL(`live?run=${this.run}&since=${this.samples.length}`, base));
        if (!response.ok) return;
        told = await response.json();
      } catch { return; } // the page stays as it was; the next try is a second away
      if (told.run !== this.run) this.samples = [];
      this.run = told.run;
      this.samples = this.samples.slice(0, told.from).concat(told.samples);
      this.state = told;
      for (const listener of this.listeners) listener();
    },
  };

  function element(name, attributes, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children.map((child) => (child instanceof Node ? child : String(child))));
    return made;
  }

  function drawn(name, attributes, text) {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return made;
  }

  const short = (value) => (value >= 100 ? value.toFixed(0) : value >= 1 ? value.toFixed(1) : value.toPrecision(2));

  // lines: [{label, colour, points: [[x, y]], dots}]; marks: [[x, label]]
  function chart(title, unit, across, lines, marks = []) {
    const [width, height, left, bottom, top] = [760, 230, 60, 34, 12];
    const points = lines.flatMap((line) => line.points);
    const figure = element("figure", { style: "margin:1rem 0" }, element("figcaption", { style: "font-weight:600" }, title));
    if (!points.length) {
      figure.append(element("p", {}, "no figures yet"));
      return figure;
    }
    const mostX = Math.max(...points.map((p) => p[0]), 1e-9), mostY = Math.max(...points.map((p) => p[1]), 1e-9) * 1.05;
    const x = (value) => left + (value / mostX) * (width - left - 24);
    const y = (value) => height - bottom - (value / mostY) * (height - bottom - top);
    const svg = drawn("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", style: "width:100%;max-width:900px;height:auto" });
    svg.append(drawn("title", {}, `${title}: ${lines.map((l) => l.label).join(", ")}`));
    for (let part = 0; part <= 4; part += 1) {
      const value = (mostY * part) / 4;
      svg.append(drawn("line", { x1: left, x2: width - 24, y1: y(value), y2: y(value), stroke: "currentColor", opacity: 0.15 }));
      svg.append(drawn("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end", "font-size": 11, fill: "currentColor" }, short(value)));
    }
    for (let part = 0; part <= 4; part += 1) {
      const value = (mostX * part) / 4;
      svg.append(drawn("text", { x: x(value), y: height - 16, "text-anchor": "middle", "font-size": 11, fill: "currentColor" }, short(value)));
    }
    svg.append(drawn("text", { x: width / 2, y: height - 2, "text-anchor": "middle", "font-size": 11, fill: "currentColor" }, across));
    for (const [at, label] of marks) {
      svg.append(drawn("line", { x1: x(at), x2: x(at), y1: top, y2: height - bottom, stroke: "#c62828", "stroke-dasharray": "4 3" }));
      svg.append(drawn("text", { x: x(at) + 3, y: top + 10, "font-size": 11, fill: "#c62828" }, label));
    }
    for (const line of lines) {
      if (line.dots) {
        for (const [a, b] of line.points) svg.append(drawn("circle", { cx: x(a), cy: y(b), r: 3, fill: line.colour }));
      } else {
        const path = line.points.map(([a, b], n) => `${n ? "L" : "M"}${x(a).toFixed(1)} ${y(b).toFixed(1)}`).join("");
        svg.append(drawn("path", { d: path, fill: "none", stroke: line.colour, "stroke-width": 2, ...(line.dashes ? { "stroke-dasharray": line.dashes } : {}) }));
      }
    }
    const key = element("p", { style: "margin:.2rem 0;font-size:.85rem" });
    for (const line of lines) {
      key.append(element("span", { style: `color:${line.colour};font-weight:700` }, "■ "), `${line.label}  `);
    }
    figure.append(svg, key, element("small", {}, unit));
    return figure;
  }

  const series = (samples, name) => samples.filter((s) => s[name] !== null && s[name] !== undefined).map((s) => [s.at, s[name]]);
  // The samples in whose second nothing was done to the store, and the others.
  function parted(samples) {
    const [quiet, hurt] = [[], []];
    let going = 0;
    for (const sample of samples) {
      const events = sample.events ?? [];
      const begun = events.filter((event) => !event.text.endsWith(" over")).length;
      (going || begun ? hurt : quiet).push(sample);
      going = Math.max(0, going + begun - (events.length - begun));
    }
    return [quiet, hurt];
  }
  function dots(samples, point) {
    const [quiet, hurt] = parted(samples);
    const lines = [{ label: "a second each", colour: "#2e7d32", dots: true, points: quiet.map(point) }];
    return hurt.length ? [...lines, { label: "during a fault", colour: "#c62828", dots: true, points: hurt.map(point) }] : lines;
  }
  const marksOf = (samples) => samples.flatMap((s) => (s.events ?? []).map((event) => [event.at, event.text]));

  class Panel extends HTMLElement {
    connectedCallback() {
      this.style.cssText = "display:block;padding:1rem";
      this.listener = () => this.render();
      feed.add(this.listener);
    }
    disconnectedCallback() { feed.remove(this.listener); }
    render() { this.replaceChildren(...this.content(feed.state, feed.samples, feed.samples.at(-1))); }
  }

  const COLOURS = { pass: "#2e7d32", fail: "#c62828", unknown: "#8d6e00" };

  function banner(state) {
    const verdict = state.result?.verdict;
    const text = verdict && state.state === "done" ? `Verdict: ${verdict}` : `State: ${STATES[state.state] ?? state.state}`;
    const style = `font-size:1.3rem;font-weight:700;color:${COLOURS[verdict] ?? "inherit"}`;
    return element("p", { style, role: "status", "data-verdict": verdict ?? "", "data-state": state.state }, text);
  }

  class Invariants extends Panel {
    content(state, samples, last) {
      const parts = [element("h2", {}, state.title || "racegate"), banner(state)];
      const final = state.result?.findings;
      const live = (last?.findings ?? []).map((message) => ({ message }));
      const findings = final ?? live;
      parts.push(element("h3", {}, final ? "Findings" : "Findings so far"));
      if (findings.length) {
        const list = element("ol", { "data-findings": findings.length });
        for (const finding of findings) {
          const name = finding.invariant ? `${finding.invariant} (${finding.class}): ` : "";
          list.append(element("li", { style: "margin:.3rem 0" }, `${name}${finding.message}`));
        }
        parts.push(list);
      } else {
        parts.push(element("p", {}, final ? "none" : "none; the verdict comes after the run, over everything"));
      }
      if (state.result?.folder) parts.push(element("p", {}, `Kept in ${state.result.folder}`));
      if (last) {
        parts.push(element("p", {}, `${last.issued} numbers issued, ${last.duplicates} of them issued before; gap rate ${(100 * last.gap_rate).toFixed(2)} %; ` +
          `${last.in_flight} operations in flight, ${last.lock_waits ?? "-"} sessions wait for a lock`));
      }
      const marks = marksOf(samples);
      parts.push(
        chart("Numbers issued", "numbers since the start", "seconds", [
          { label: "issued", colour: "#1565c0", points: series(samples, "issued") },
          { label: "issued twice", colour: "#c62828", dashes: "6 3", points: series(samples, "duplicates") }], marks),
        chart("Gap rate", "numbers inside the range that nobody was told, share", "seconds", [
          { label: "gap rate", colour: "#6a1b9a", points: series(samples, "gap_rate") },
          ...(samples.some((s) => s.gap_limit !== null && s.gap_limit !== undefined) ? [
            { label: "normal by the budget", colour: "#2e7d32", dashes: "6 3", points: series(samples, "gap_normal") },
            { label: "to be investigated", colour: "#c62828", dashes: "2 2", points: series(samples, "gap_limit") }] : [])], marks),
        chart("In flight and waiting", "operations and sessions", "seconds", [
          { label: "in flight", colour: "#1565c0", points: series(samples, "in_flight") },
          { label: "waiting for a lock", colour: "#c62828", dashes: "6 3", points: series(samples, "lock_waits") }], marks));
      return parts;
    }
  }

  class Capacity extends Panel {
    content(state, samples, last) {
      const marks = marksOf(samples);
      const busy = last && last.cpu > 0.9;
      const parts = [element("h2", {}, state.title || "racegate"), banner(state)];
      if (last) {
        parts.push(element("p", { style: busy ? "color:#c62828;font-weight:700" : "" },
          `The generator uses ${(100 * last.cpu).toFixed(0)} % of a core${busy ? ": it is itself the bottleneck, and its own waiting shows in the latencies" : ""}`));
      }
      parts.push(
        chart("Rate", "operations per second; correct: without numbers issued before", "seconds", [
          { label: "ok", colour: "#90a4ae", dashes: "6 3", points: series(samples, "rate") },
          { label: "correct", colour: "#2e7d32", points: series(samples, "correct_rate") }], marks),
        chart("Latency", "milliseconds, from the intended start where there is one", "seconds", [
          { label: "p50", colour: "#2e7d32", points: series(samples, "p50") },
          { label: "p95", colour: "#ef6c00", dashes: "6 3", points: series(samples, "p95") },
          { label: "p99", colour: "#c62828", dashes: "2 2", points: series(samples, "p99") }], marks),
        chart("Correct rate by users", "operations per second", "users",
          dots(samples.filter((s) => s.users), (s) => [s.users, s.correct_rate])),
        chart("Latency by rate", "p95 in milliseconds", "operations per second",
          dots(samples.filter((s) => s.p95), (s) => [s.rate, s.p95])));
      return parts;
    }
  }

  customElements.define("racegate-invariants", Invariants);
  customElements.define("racegate-capacity", Capacity);
})();
