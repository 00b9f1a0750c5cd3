async ([seen, kept, columns]) => {
  const grid = async (data) => {
    const image = new Image();
    image.src = 'data:image/png;base64,' + data;
    await image.decode();
    const rows = Math.round(columns * image.height / image.width);
    const canvas = new OffscreenCanvas(columns, rows).getContext('2d', { willReadFrequently: true });
    canvas.imageSmoothingQuality = 'high';
    canvas.drawImage(image, 0, 0, columns, rows);
    const data4 = canvas.getImageData(0, 0, columns, rows).data;
    return [rows, Array.from({ length: columns * rows }, (_, n) => (data4[4 * n] + data4[4 * n + 1] + data4[4 * n + 2]) / 3)];
  };
  const [[rows, a], [keptRows, b]] = [await grid(seen), await grid(kept)];
  const shared = columns * Math.min(rows, keptRows);
  const ground = a[0];
  let apart = 0, ink = 0;
  for (let n = 0; n < shared; n++) {
    apart += Math.abs(a[n] - b[n]);
    ink += Math.abs(a[n] - ground) + Math.abs(b[n] - ground);
  }
  return [rows, keptRows, apart / Math.max(ink, 1)];
}
