"use strict";
// Masks: compressed COCO run lengths to pixels, and pixels to outlines. No page, no state.

/** Run lengths of a mask, column by column, zeros first. A character holds five bits and a sixth where more follow. */
function decodeRuns(text) {
  const runs = [];
  let place = 0;
  while (place < text.length) {
    let value = 0;
    let shift = 0;
    let code;
    do {
      code = text.charCodeAt(place++) - 48;
      value |= (code & 31) << shift;
      shift += 5;
    } while (code & 32);
    if (code & 16) value |= -1 << shift; // the last character carries the sign
    // From the fourth on it is the difference to the last but one.
    if (runs.length > 2) value += runs[runs.length - 2];
    runs.push(value);
  }
  return runs;
}

/** The window around a mask in a picture of this height: left, top, width, height, and its pixels by rows, 0 or 1. */
function decodeMask(text, height) {
  const runs = decodeRuns(text);
  let [left, right, top, bottom] = [Infinity, -1, height, -1];
  eachRun(runs, (start, end) => {
    const [first, last] = [Math.floor(start / height), Math.floor((end - 1) / height)];
    left = Math.min(left, first);
    right = Math.max(right, last);
    top = Math.min(top, first === last ? start % height : 0);
    bottom = Math.max(bottom, first === last ? (end - 1) % height : height - 1);
  });
  if (right < 0) return { left: 0, top: 0, width: 0, height: 0, pixels: new Uint8Array(0) };
  const mask = { left, top, width: right - left + 1, height: bottom - top + 1, pixels: null };
  mask.pixels = new Uint8Array(mask.width * mask.height);
  eachRun(runs, (start, end) => {
    for (let pixel = start; pixel < end; pixel++) {
      mask.pixels[((pixel % height) - top) * mask.width + Math.floor(pixel / height) - left] = 1;
    }
  });
  return mask;
}

function eachRun(runs, visit) {
  let start = 0;
  runs.forEach((length, index) => {
    if (index % 2 && length) visit(start, start + length);
    start += length;
  });
}

/** Whether a mask covers a pixel of the picture. */
function covers(mask, x, y) {
  const [column, row] = [x - mask.left, y - mask.top];
  const near = column >= 0 && row >= 0 && column < mask.width && row < mask.height;
  return near && mask.pixels[row * mask.width + column] === 1;
}

/** The outline of a mask as the data of an SVG path in pixels of the picture, its stairs smoothed. */
function outlineOf(mask) {
  return borders(mask).map((loop) => pathOf(smooth(loop), mask)).join("");
}

/** Closed walks along the borders of a mask, right around it; each is a list of the middles of pixels' edges. */
function borders(mask) {
  const across = mask.width + 1;
  const leaving = leavingEdges(mask);
  const [stepX, stepY] = [[1, 0, -1, 0], [0, 1, 0, -1]];
  const loops = [];
  for (let corner = 0; corner < leaving.length; corner++) {
    while (leaving[corner]) {
      const loop = [];
      let at = corner;
      let heading = 31 - Math.clz32(leaving[corner]);
      do {
        // Where two pixels touch at a corner, turning right keeps them apart.
        for (heading = (heading + 1) % 4; !(leaving[at] & (1 << heading)); ) heading = (heading + 3) % 4;
        leaving[at] &= ~(1 << heading);
        loop.push([(at % across) + stepX[heading] / 2, Math.floor(at / across) + stepY[heading] / 2]);
        at += stepX[heading] + stepY[heading] * across;
      } while (at !== corner);
      loops.push(loop);
    }
  }
  return loops;
}

/** For each corner of pixels, which edges leave it with the mask at their right, as bits: right, down, left, up. */
function leavingEdges({ width, height, pixels }) {
  const across = width + 1;
  const leaving = new Uint8Array(across * (height + 1));
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const pixel = y * width + x;
      if (!pixels[pixel]) continue;
      const corner = y * across + x;
      if (y === 0 || !pixels[pixel - width]) leaving[corner] |= 1;
      if (x === width - 1 || !pixels[pixel + 1]) leaving[corner + 1] |= 2;
      if (y === height - 1 || !pixels[pixel + width]) leaving[corner + across + 1] |= 4;
      if (x === 0 || !pixels[pixel - 1]) leaving[corner + across] |= 8;
    }
  }
  return leaving;
}

/** Averages over five neighbours of a closed walk; a short one stays as it is. */
function smooth(loop) {
  if (loop.length < 16) return loop;
  const kept = [];
  for (let place = 0; place < loop.length; place += 2) {
    let [x, y] = [0, 0];
    for (let step = 0; step < 5; step++) {
      const near = loop[(place + step) % loop.length];
      x += near[0] / 5;
      y += near[1] / 5;
    }
    kept.push([x, y]);
  }
  return kept;
}

function pathOf(loop, mask) {
  return `M${loop.map(([x, y]) => `${(x + mask.left).toFixed(1)} ${(y + mask.top).toFixed(1)}`).join("L")}Z`;
}
