// What is drawn of a picture, the same on its own view and on the contact sheet.

const FILL = { object: 0.22, part: 0.46, lit: 0.62 };
const LINE = { object: 2.5, part: 1.25, lit: 2.5 };
const SHADE = { outside: 0.6, object: 0.28 };
const RIM = "rgba(12, 12, 16, 0.6)";

/**
 * The strokes and fills of the instances that are shown, large ones first so that parts lie on top.
 *
 * With one lit, only it, what belongs to it and what it belongs to are drawn.
 */
function layersOf(picture, shown, lit) {
  const related = new Set(lit === null ? shown.keys() : [lit, ...above(picture, lit), ...below(picture, lit)]);
  const items = picture.items.filter(({ index }) => shown.has(index) && related.has(index));
  const layers = items.map((item) => {
    const own = item.index === lit;
    const whole = shown.get(item.index) === "whole";
    const covered = item.level === "object" && item.children.some((child) => shown.get(child) === "whole");
    const frames = above(picture, lit).includes(item.index);
    const drawn = own || whole || (item.level === "object" && state.objects);
    return {
      item,
      fill: state.fill && drawn && whole && !covered && !frames ? FILL[own ? "lit" : item.level] : 0,
      line: drawn && (state.outlines || own) ? LINE[own ? "lit" : item.level] : 0,
    };
  });
  return layers.sort((one, other) => other.item.area - one.item.area);
}

/** Blend a colour into the pixels (RGBA) of a picture of this width, where the mask is. */
function blend(data, width, mask, colour, alpha) {
  for (let row = 0; row < mask.height; row++) {
    let at = ((mask.top + row) * width + mask.left) * 4;
    for (let place = row * mask.width; place < (row + 1) * mask.width; place++, at += 4) {
      if (!mask.pixels[place]) continue;
      if (!data[at + 3]) {
        [data[at], data[at + 1], data[at + 2]] = colour;
        data[at + 3] = alpha * 255;
        continue;
      }
      const behind = (data[at + 3] / 255) * (1 - alpha);
      const total = alpha + behind;
      for (let channel = 0; channel < 3; channel++) {
        data[at + channel] = (colour[channel] * alpha + data[at + channel] * behind) / total;
      }
      data[at + 3] = total * 255;
    }
  }
}

/** Fill the masks of the layers on a canvas that has one pixel for each pixel of the picture. */
function paintFills(canvas, picture, masks, layers) {
  const [width, height] = picture.shown;
  const context = sized(canvas, width, height).getContext("2d");
  const image = context.createImageData(width, height);
  for (const { item, fill } of layers) {
    if (fill) blend(image.data, width, masks[item.index], item.colour, fill);
  }
  context.putImageData(image, 0, 0);
}

/** Darken what is not lit: the surroundings most, the object of a lit part less. */
function paintShade(canvas, picture, masks, lit) {
  const [width, height] = picture.shown;
  const context = sized(canvas, width, height).getContext("2d");
  if (lit === null) return;
  const image = context.createImageData(width, height);
  new Uint32Array(image.data.buffer).fill(new Uint32Array(Uint8Array.of(0, 0, 0, 255 * SHADE.outside).buffer)[0]);
  const line = [...above(picture, lit).reverse(), lit];
  for (const index of line) setAlpha(image.data, width, masks[index], index === lit ? 0 : 255 * SHADE.object);
  context.putImageData(image, 0, 0);
}

function setAlpha(data, width, mask, alpha) {
  for (let row = 0; row < mask.height; row++) {
    let at = ((mask.top + row) * width + mask.left) * 4 + 3;
    for (let place = row * mask.width; place < (row + 1) * mask.width; place++, at += 4) {
      if (mask.pixels[place]) data[at] = alpha;
    }
  }
}

/** Stroke the outlines of the layers as SVG, sharp at any size; an object's is set off by a dark rim. */
function strokeLines(svg, picture, masks, layers) {
  svg.setAttribute("viewBox", `0 0 ${picture.shown.join(" ")}`);
  svg.replaceChildren();
  const stroke = (data, colour, width) => {
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("d", data);
    path.setAttribute("stroke", colour);
    path.setAttribute("stroke-width", width);
    svg.append(path);
  };
  for (const { item, line } of strokeOrder(layers)) {
    const data = outline(masks[item.index]);
    if (line > LINE.part) stroke(data, RIM, line + 2);
    stroke(data, css(item.colour), line);
  }
}

/** Draw the layers on the canvas of a thumbnail, twice as fine as it is, so that it is sharp on any screen. */
function paintThumbnail(canvas, picture, masks, layers) {
  const [width, height] = picture.shown;
  const scale = Math.min(1, 384 / Math.max(width, height));
  const [across, down] = [width, height].map((side) => Math.max(1, Math.round(side * scale)));
  const context = sized(canvas, across, down).getContext("2d");
  const full = document.createElement("canvas");
  paintFills(full, picture, masks, layers);
  context.imageSmoothingQuality = "high";
  context.drawImage(full, 0, 0, across, down);
  context.setTransform(across / width, 0, 0, down / height, 0, 0);
  for (const { item, line } of strokeOrder(layers)) {
    const path = new Path2D(outline(masks[item.index]));
    const strokes = [[css(item.colour), line]];
    if (line > LINE.part) strokes.unshift([RIM, line + 2]);
    for (const [colour, wide] of strokes) {
      context.strokeStyle = colour;
      context.lineWidth = (wide * 1.1) / scale;
      context.stroke(path);
    }
  }
}

/** Parts first, so that no part hides the outline of an object. */
function strokeOrder(layers) {
  return layers.filter(({ line }) => line).sort((one, other) => one.line - other.line);
}

function outline(mask) {
  mask.outline ??= outlineOf(mask);
  return mask.outline;
}

function sized(canvas, width, height) {
  canvas.width = width; // also clears it
  canvas.height = height;
  return canvas;
}

function css(colour) {
  return `rgb(${colour.join(", ")})`;
}
