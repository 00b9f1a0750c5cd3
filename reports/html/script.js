"use strict";
// Everything here is extra: without it the page shows the same facts.
(() => {
  const all = (selector, from = document) => Array.from(from.querySelectorAll(selector));
  const make = (name, attributes) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  };
  all("[data-needs-script]").forEach((element) => { element.hidden = false; });

  // Theme: as the system, or the reader's choice, kept where the browser lets us.
  const themes = ["system", "light", "dark"];
  const kept = () => { try { return localStorage.getItem("racegate-theme") || "system"; } catch { return "system"; } };
  const button = document.querySelector("[data-theme-button]");
  const wear = (theme) => {
    if (theme === "system") delete document.documentElement.dataset.theme; else document.documentElement.dataset.theme = theme;
    button.textContent = "Theme: " + (theme === "system" ? "as the system" : theme);
    button.dataset.now = theme;
  };
  wear(kept());
  button.addEventListener("click", () => {
    const next = themes[(themes.indexOf(button.dataset.now) + 1) % themes.length];
    wear(next);
    try { localStorage.setItem("racegate-theme", next); } catch { /* a file opened without storage */ }
  });

  // Commands: copy.
  all("[data-copy]").forEach((copy) => copy.addEventListener("click", async () => {
    const pre = copy.parentElement.querySelector("pre");
    try { await navigator.clipboard.writeText(pre.textContent); copy.textContent = "Copied"; }
    catch { getSelection().selectAllChildren(pre); copy.textContent = "Selected"; }
  }));

  // Overview: filter.
  const find = document.querySelector("[data-filter-text]");
  if (find) {
    const boxes = all("[data-filter-verdict]"), rows = all("table.runs tbody tr");
    const texts = rows.map((row) => row.textContent.toLowerCase());
    const status = document.querySelector("[data-filter-status]");
    const apply = () => {
      const shown = new Set(boxes.filter((b) => b.checked).map((b) => b.dataset.filterVerdict));
      const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
      let count = 0;
      rows.forEach((row, n) => {
        row.hidden = !(shown.has(row.dataset.verdict) && words.every((word) => texts[n].includes(word)));
        count += row.hidden ? 0 : 1;
      });
      status.textContent = count + " of " + rows.length + " runs";
    };
    [find, ...boxes].forEach((control) => control.addEventListener("input", apply));
  }

  // Charts: hints under pointer and keyboard, zoom over time.
  const hint = document.getElementById("hint");
  const tell = (text, x, y) => {
    hint.textContent = text;
    hint.hidden = false;
    const box = hint.getBoundingClientRect();
    hint.style.left = Math.max(4, Math.min(x + 12, innerWidth - box.width - 4)) + "px";
    hint.style.top = Math.max(4, y - box.height - 12) + "px";
  };
  all("figure.chart").forEach((figure) => {
    const svg = figure.querySelector(".picture svg"), picture = figure.querySelector(".picture");
    const source = figure.querySelector("script.hints");
    const hints = source ? JSON.parse(source.textContent) : [];
    const left = +svg.dataset.left, right = +svg.dataset.right;
    let factor = 1, shift = 0, at = -1;
    const ring = svg.appendChild(make("circle", { class: "here", r: 6, visibility: "hidden" }));
    const placed = ([x, y]) => [factor * x + shift, y];
    const visible = (h) => !(left < right) || factor === 1 || (placed(h)[0] >= left - 1 && placed(h)[0] <= right + 1);
    const show = (n) => {
      at = n;
      const [x, y] = placed(hints[n]);
      const point = new DOMPoint(x, y).matrixTransform(svg.getScreenCTM());
      ring.setAttribute("cx", x); ring.setAttribute("cy", y); ring.setAttribute("visibility", "visible");
      tell(hints[n][2], point.x, point.y);
    };
    const hide = () => { ring.setAttribute("visibility", "hidden"); hint.hidden = true; };
    svg.addEventListener("pointermove", (event) => {
      const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
      let best = -1, least = 40 * 40;
      hints.forEach((h, n) => {
        if (!visible(h)) return;
        const [x, y] = placed(h), distance = (x - point.x) ** 2 + ((y - point.y) / 3) ** 2;
        if (distance < least) { least = distance; best = n; }
      });
      if (best >= 0) show(best); else hide();
    });
    svg.addEventListener("pointerleave", hide);
    picture.addEventListener("blur", hide);
    const order = hints.map((_, n) => n).sort((a, b) => hints[a][0] - hints[b][0]);
    picture.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (event.key === "Escape") hide();
      if (!step || !hints.length) return;
      const shown = order.filter((n) => visible(hints[n]));
      if (!shown.length) return;
      const now = shown.indexOf(at);
      show(shown[now < 0 ? (step > 0 ? 0 : shown.length - 1) : Math.max(0, Math.min(now + step, shown.length - 1))]);
      event.preventDefault();
    });

    if (!("zoomable" in figure.dataset)) return;
    const zoomed = svg.querySelector(".zoom"), ticks = svg.querySelector(".x-ticks");
    const low = +svg.dataset.low, high = +svg.dataset.high, bottom = +svg.dataset.bottom, original = ticks.innerHTML;
    const draw = () => {
      shift = Math.min(left * (1 - factor), Math.max(right * (1 - factor), shift)) + 0;
      if (factor === 1) shift = 0;
      zoomed.setAttribute("transform", `matrix(${factor} 0 0 1 ${shift} 0)`);
      hide();
      if (factor === 1) { ticks.innerHTML = original; return; }
      ticks.replaceChildren();
      for (let n = 0; n <= 5; n++) {
        const x = left + (right - left) * n / 5;
        const time = low + ((x - shift) / factor - left) / (right - left) * (high - low);
        ticks.append(make("path", { d: `M${x} ${bottom}v5`, class: "axis" }));
        const label = make("text", { x, y: bottom + 18, "text-anchor": n === 5 ? "end" : "middle" });
        label.textContent = "+" + time.toFixed(factor > 8 ? 4 : 3) + " s";
        ticks.append(label);
      }
    };
    const zoom = (by, around = (left + right) / 2) => {
      const next = Math.max(1, Math.min(256, factor * by));
      shift = around - (around - shift) * next / factor;
      factor = next;
      draw();
    };
    const bar = document.createElement("div");
    bar.className = "zoombar";
    for (const [label, title, act] of [
      ["+", "Zoom in", () => zoom(2)], ["−", "Zoom out", () => zoom(0.5)],
      ["←", "Earlier", () => { shift += (right - left) / 3; draw(); }], ["→", "Later", () => { shift -= (right - left) / 3; draw(); }],
      ["All", "Show all", () => { factor = 1; draw(); }],
    ]) {
      const control = document.createElement("button");
      control.type = "button"; control.textContent = label; control.title = title;
      control.setAttribute("aria-label", title);
      control.addEventListener("click", act);
      bar.append(control);
    }
    figure.insertBefore(bar, picture);
    svg.addEventListener("wheel", (event) => {
      if (!event.ctrlKey) return;
      const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
      zoom(event.deltaY < 0 ? 1.3 : 1 / 1.3, point.x);
      event.preventDefault();
    }, { passive: false });
  });
})();
