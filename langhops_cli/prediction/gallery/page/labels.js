// Names on the picture, placed so that none hides another.

/** Put a label at each object, or with one lit at what is lit; the surest first, and what finds no room is left out. */
function placeLabels(picture, masks, layers) {
  const box = element("labels");
  box.replaceChildren();
  if (!state.names && lit() === null) return;
  const frame = box.getBoundingClientRect();
  const taken = [];
  for (const item of labelled(layers)) {
    const label = make("span", `label ${item.level}`, item.name + (state.scores ? ` ${item.score.toFixed(2)}` : ""));
    label.style.background = css(item.colour);
    label.style.color = css(item.ink);
    box.append(label);
    const place = placeFor(label, masks[item.index], frame, picture.shown, taken);
    if (!place) {
      label.remove();
      continue;
    }
    taken.push(place);
    label.style.left = `${place.left}px`;
    label.style.top = `${place.top}px`;
  }
}

function labelled(layers) {
  const objects = layers.filter(({ item, line, fill }) => item.level === "object" && (line || fill));
  const chosen = lit() === null ? objects : layers;
  const rank = (item) => (item.index === lit() ? 2 : item.level === "object" ? 1 : 0) + item.score / 2;
  return chosen.map(({ item }) => item).sort((one, other) => rank(other) - rank(one));
}

/** The first of a few places at a mask where the label lies inside the picture and on no other; null without one. */
function placeFor(label, mask, frame, shown, taken) {
  const scale = frame.width / shown[0];
  const [width, height] = [label.offsetWidth, label.offsetHeight];
  const [left, top] = [mask.left * scale, mask.top * scale];
  const [right, bottom] = [(mask.left + mask.width) * scale, (mask.top + mask.height) * scale];
  const beside = [[left, top - height - 3], [left, bottom + 3], [right - width, top - height - 3], [left + 3, top + 3]];
  const roomy = label.classList.contains("part") && right - left > 1.2 * width && bottom - top > 1.5 * height;
  const within = roomy ? [[(left + right - width) / 2, (top + bottom - height) / 2]] : [];
  for (const [x, y] of [...within, ...beside]) {
    const place = {
      left: Math.max(2, Math.min(x, frame.width - width - 2)),
      top: Math.max(2, Math.min(y, frame.height - height - 2)),
    };
    place.right = place.left + width;
    place.bottom = place.top + height;
    if (!taken.some((other) => overlap(place, other))) return place;
  }
  return null;
}

function overlap(one, other) {
  return one.left < other.right && other.left < one.right && one.top < other.bottom && other.top < one.bottom;
}
