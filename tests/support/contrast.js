// Returns the contrasts of the texts and controls that a selector finds: {kind, name, ratio}[].
(selector) => {
  const IGNORED = ":disabled, :disabled *, .visually-hidden, .visually-hidden *, .hidden, .skip";
  const CONTROLS = "input:not([type=checkbox], [type=radio], [type=hidden]), select, textarea, button, a.button";

  // A canvas turns any color into sRGB.
  const context = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });

  function rgba(color) {
    context.clearRect(0, 0, 1, 1);
    context.fillStyle = color;
    context.fillRect(0, 0, 1, 1);
    const [red, green, blue, alpha] = context.getImageData(0, 0, 1, 1).data;
    return [red, green, blue, alpha / 255];
  }

  const over = (top, below) => [0, 1, 2].map((part) => top[part] * top[3] + below[part] * (1 - top[3]));

  function luminance(color) {
    const [red, green, blue] = color.map((part) => {
      const share = part / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  }

  function ratio(one, two) {
    const [low, high] = [luminance(one), luminance(two)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  }

  /** The color that shows through an element and everything around it. */
  function background(element) {
    const layers = [];
    for (let each = element; each; each = each.parentElement) layers.push(rgba(getComputedStyle(each).backgroundColor));
    return layers.reduceRight((below, layer) => over(layer, below), rgba("Canvas").slice(0, 3));
  }

  /** The contrast of a control's border or, where it has none, of its surface with what is around it. */
  function boundary(element) {
    const around = background(element.parentElement);
    const { borderTopWidth, borderTopColor } = getComputedStyle(element);
    const surface = ratio(background(element), around);
    return parseFloat(borderTopWidth) ? Math.max(surface, ratio(over(rgba(borderTopColor), around), around)) : surface;
  }

  const found = [];
  for (const element of document.querySelectorAll(selector)) {
    if (!element.checkVisibility({ visibilityProperty: true }) || element.matches(IGNORED)) continue;
    const name = `${element.tagName.toLowerCase()} ${element.id} ${element.textContent.trim().slice(0, 40)}`;
    const behind = background(element);
    const addText = (style) => found.push({ kind: "text", name, ratio: ratio(over(rgba(style.color), behind), behind) });
    if ([...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim())) {
      addText(getComputedStyle(element));
    }
    if (element.placeholder && !element.value) addText(getComputedStyle(element, "::placeholder"));
    if (element.matches(CONTROLS)) {
      const contrast = boundary(element);
      // A button without a surface and a border is recognized by its text.
      if (contrast > 1) found.push({ kind: "control", name, ratio: contrast });
    }
  }
  return found;
};
