() => {
  const wrong = [];
  const wide = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth > wide) wrong.push(`the page is ${document.documentElement.scrollWidth} wide`);
  const inScroller = (e) => e.closest('.scroll') !== null;
  for (const e of document.querySelectorAll('body *')) {
    const box = e.getBoundingClientRect();
    if (box.width === 0 || e.closest('.skip, [hidden], .alone h2, svg *')) continue;
    if (!inScroller(e) && box.right > wide + 1) wrong.push(`${e.tagName}.${e.className} ends at ${box.right}`);
  }
  const blocks = [...document.querySelectorAll('h1, h2, h3, p, figure, table, dl, pre, article > *')]
    .filter((e) => e.getBoundingClientRect().height > 0 && !e.closest('figure figcaption, details:not([open])'));
  for (let n = 1; n < blocks.length; n++) {
    const [a, b] = [blocks[n - 1], blocks[n]];
    if (a.contains(b) || b.contains(a) || a.closest('.command') || inScroller(b)) continue;
    const [above, below] = [a.getBoundingClientRect(), b.getBoundingClientRect()];
    const over = Math.min(above.bottom, below.bottom) - Math.max(above.top, below.top);
    const beside = Math.min(above.right, below.right) - Math.max(above.left, below.left);
    if (over > 2 && beside > 2) wrong.push(`${a.tagName} "${a.textContent.slice(0, 30)}" lies over ${b.tagName} "${b.textContent.slice(0, 30)}"`);
  }
  for (const drawn of document.querySelectorAll('.drawn')) {
    const [svg, frame] = [drawn.querySelector('svg'), drawn.querySelector('svg').getBoundingClientRect()];
    if (frame.width === 0) continue;
    if (drawn.matches('.narrow') && frame.width > wide) wrong.push(`a narrow picture is ${frame.width} wide`);
    const rows = [...svg.querySelectorAll('g')].map((g) => [g.querySelector('rect').getBoundingClientRect(), g]);
    for (const [card, g] of rows)
      for (const text of [...g.querySelectorAll('text')].slice(1)) {
        const box = text.getBoundingClientRect();
        if (box.left < card.left || box.right > card.right + 1 || box.top < card.top - 1 || box.bottom > card.bottom + 2)
          wrong.push(`"${text.textContent}" leaves its card`);
      }
    for (let n = 1; n < rows.length; n++) if (rows[n][0].top < rows[n - 1][0].bottom) wrong.push(`card ${n + 1} lies over card ${n}`);
    for (const text of svg.querySelectorAll('text')) {
      const box = text.getBoundingClientRect();
      if (box.left < frame.left - 1 || box.right > frame.right + 1 || box.bottom > frame.bottom + 1) wrong.push(`"${text.textContent}" leaves its picture`);
    }
  }
  for (const picture of document.querySelectorAll('.picture svg')) {
    const frame = picture.getBoundingClientRect();
    if (frame.width < 600 || frame.height < 60) wrong.push(`a picture is ${frame.width} x ${frame.height}`);
    for (const text of picture.querySelectorAll('text')) {
      const box = text.getBoundingClientRect();
      if (box.left < frame.left - 1 || box.right > frame.right + 1 || box.bottom > frame.bottom + 1 || box.top < frame.top - 1)
        wrong.push(`"${text.textContent}" leaves its picture`);
    }
    for (const group of picture.querySelectorAll('.labels')) {
      const boxes = [...group.querySelectorAll('text')].map((t) => [t.textContent, t.getBoundingClientRect()]);
      for (let n = 1; n < boxes.length; n++) {
        const [[t1, a], [t2, b]] = [boxes[n - 1], boxes[n]];
        if (Math.min(a.right, b.right) - Math.max(a.left, b.left) > 0 && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1)
          wrong.push(`"${t1}" and "${t2}" run into one another`);
      }
    }
  }
  return wrong;
}
