() => {
  const canvas = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
  const rgb = (colour) => { canvas.fillStyle = '#000'; canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3); };
  const light = (c) => c.map((v) => v / 255).map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4).reduce((s, v, n) => s + v * [0.2126, 0.7152, 0.0722][n], 0);
  const ratio = (a, b) => { const [x, y] = [light(rgb(a)), light(rgb(b))].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05); };
  const style = getComputedStyle(document.documentElement);
  const value = (name) => style.getPropertyValue(name).trim();
  const names = ['ok', 'failed', 'info', 'twice', 'gap', 'faint', 'series-1', 'series-2', 'series-3', 'focus', 'fail', 'pass', 'unknown'];
  return Object.fromEntries(names.map((name) => [name, ratio(value('--' + name), value('--page'))]));
}
