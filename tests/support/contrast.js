// Texts with a contrast below 4.5 : 1 (WCAG 2.2, 1.4.3), as {element: [ratio, text]}.
() => {
  const luminance = (color) => {
    const [r, g, b] = color.map((v) => (v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const parse = (css) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = css;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, below) => [0, 1, 2].map((i) => top[3] * top[i] + (1 - top[3]) * below[i]);
  const parents = (element) => (element ? [element, ...parents(element.parentElement)] : []);
  const low = {};
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = texts.nextNode());) {
    const text = node.textContent.trim(), element = node.parentElement;
    if (!text || !element?.checkVisibility({ visibilityProperty: true })) continue;
    if (element.closest('.sr, script, style, noscript, option, optgroup') || !element.getBoundingClientRect().width) continue;
    const chain = parents(element), style = getComputedStyle(element);
    let ground = [255, 255, 255];
    for (const each of [...chain].reverse()) ground = over(parse(getComputedStyle(each).backgroundColor), ground);
    const [r, g, b, a] = parse(style.color);
    const opacity = chain.reduce((product, each) => product * Number(getComputedStyle(each).opacity), 1);
    const lights = [luminance(over([r, g, b, a * opacity], ground)), luminance(ground)].sort((x, y) => y - x);
    const ratio = (lights[0] + 0.05) / (lights[1] + 0.05);
    if (ratio < 4.5) low[`${element.tagName}.${element.className}`] = [ratio.toFixed(2), text.slice(0, 40)];
  }
  return low;
}
