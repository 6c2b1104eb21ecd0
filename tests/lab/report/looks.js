// What test_browser.py asks of a page: each function returns what is wrong, nothing where all is well.

// Text whose contrast to its ground is below WCAG's AA: 4.5, or 3 for large text. The ground is what
// the elements above it paint, mixed by their opacities; in a chart's ribbon the rectangle beside it.
function contrast() {
  const pixel = document.createElement("canvas").getContext("2d", { willReadFrequently: true });

  function parsed(text) {
    pixel.clearRect(0, 0, 1, 1);
    pixel.fillStyle = text;
    pixel.fillRect(0, 0, 1, 1);
    const [red, green, blue, alpha] = pixel.getImageData(0, 0, 1, 1).data;
    return [red, green, blue, alpha / 255];
  }

  function mixed(over, under, share = 1) {
    const alpha = over[3] * share;
    return [0, 1, 2].map((index) => over[index] * alpha + under[index] * (1 - alpha));
  }

  function light(colour) {
    const [red, green, blue] = colour
      .map((one) => one / 255)
      .map((one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  }

  function ground(element) {
    const above = element.parentElement ? ground(element.parentElement) : [255, 255, 255];
    return mixed(parsed(getComputedStyle(element).backgroundColor), above);
  }

  const found = [];
  let number = 0;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.data.trim(), element = walker.currentNode.parentElement;
    if (!text || ["script", "style", "title"].includes(element.localName)) continue;
    if (!element.checkVisibility() || !element.getClientRects().length) continue;
    const style = getComputedStyle(element), drawn = element instanceof SVGElement;
    const rectangle = drawn && element.parentElement.querySelector(":scope > rect");
    let under = ground(element);
    if (rectangle) {
      const fill = getComputedStyle(rectangle);
      under = mixed(parsed(fill.fill), under, Number(fill.fillOpacity));
    }
    const colour = mixed(parsed(drawn ? style.fill : style.color), under);
    const [low, high] = [light(colour), light(under)].sort((a, b) => a - b);
    const ratio = (high + 0.05) / (low + 0.05), size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    if (ratio < (large ? 3 : 4.5)) found.push([text.slice(0, 40), ratio]);
    number += 1;
  }
  return { found, number };
}

// What lies beyond the window's sides, unless something above it scrolls or cuts it off.
function overflowing() {
  return [...document.body.querySelectorAll("*")]
    .filter((element) => {
      const box = element.getBoundingClientRect();
      if (!element.checkVisibility()) return false;
      if (box.left >= -0.5 && box.right <= innerWidth + 0.5) return false;
      for (let up = element; up !== document.body; up = up.parentElement)
        if (getComputedStyle(up).overflowX !== "visible") return false;
      return true;
    })
    .map((element) => element.outerHTML.slice(0, 120));
}

// Texts of a visible chart that lie on one another, or beyond the chart.
function colliding() {
  const wrong = [];
  for (const chart of document.querySelectorAll("svg.chart")) {
    if (!chart.checkVisibility()) continue;
    const frame = chart.getBoundingClientRect();
    const texts = [...chart.querySelectorAll("text")];
    const boxes = texts.map((text) => text.getBoundingClientRect());
    texts.forEach((text, index) => {
      const a = boxes[index];
      if (a.left < frame.left - 1 || a.right > frame.right + 1 || a.bottom > frame.bottom + 1)
        wrong.push(`${text.textContent} is cut`);
      boxes.slice(0, index).forEach((b, other) => {
        const beside = a.left >= b.right - 1 || b.left >= a.right - 1;
        if (!beside && a.top < b.bottom - 3 && b.top < a.bottom - 3)
          wrong.push(`${text.textContent} on ${texts[other].textContent}`);
      });
    });
  }
  return wrong;
}
