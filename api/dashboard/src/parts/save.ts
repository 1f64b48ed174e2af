// A panel as a file: its numbers as CSV, its drawing as PNG. Nothing leaves the browser for it.
export type Table = { columns: string[]; rows: (string | number | null | undefined)[][] };

const field = (value: string | number | null | undefined): string => {
  if (value === null || value === undefined) return "";
  const text = String(value);
  // A text that a spreadsheet would take for a formula is kept a text.
  const safe = typeof value === "string" && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
};

export const csv = ({ columns, rows }: Table): string =>
  [columns, ...rows].map((row) => row.map(field).join(",")).join("\r\n") + "\r\n";

const save = (name: string, blob: Blob): void => {
  const url = URL.createObjectURL(blob);
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  window.setTimeout(() => URL.revokeObjectURL(url), 10_000);
};

export const saveCsv = (name: string, table: Table): void => save(`${name}.csv`, new Blob([csv(table)], { type: "text/csv" }));

const STYLES = ["fill", "stroke", "stroke-width", "stroke-dasharray", "opacity", "font", "font-size", "font-family", "font-weight", "text-anchor", "fill-opacity", "stroke-opacity"];

/** An SVG with the looks that the page's style sheet gives it written into it. */
const standalone = (svg: SVGSVGElement): string => {
  const copy = svg.cloneNode(true) as SVGSVGElement;
  const from = [svg, ...svg.querySelectorAll<SVGElement>("*")];
  const to = [copy, ...copy.querySelectorAll<SVGElement>("*")];
  from.forEach((element, index) => {
    const look = getComputedStyle(element);
    for (const name of STYLES) to[index]?.setAttribute(name, look.getPropertyValue(name));
    to[index]?.removeAttribute("class");
  });
  const { width, height } = svg.getBoundingClientRect();
  copy.setAttribute("width", String(width));
  copy.setAttribute("height", String(height));
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  return new XMLSerializer().serializeToString(copy);
};

/** Draws the panel's first drawing (an SVG, or uPlot's canvas) under its title. */
export const savePicture = async (name: string, title: string, panel: HTMLElement): Promise<void> => {
  const canvas = panel.querySelector<HTMLCanvasElement>(".u-wrap canvas");
  const svg = panel.querySelector<SVGSVGElement>("svg.drawing");
  const source = canvas ?? svg;
  if (!source) return;
  const { width, height } = source.getBoundingClientRect();
  const scale = 2;
  const head = 36;
  const out = document.createElement("canvas");
  out.width = Math.ceil(width * scale);
  out.height = Math.ceil((height + head) * scale);
  const pen = out.getContext("2d");
  if (!pen) return;
  const look = getComputedStyle(panel);
  pen.scale(scale, scale);
  pen.fillStyle = look.backgroundColor;
  pen.fillRect(0, 0, width, height + head);
  pen.fillStyle = look.color;
  pen.font = `600 15px ${look.fontFamily}`;
  pen.fillText(title, 8, 23);
  if (canvas) pen.drawImage(canvas, 0, head, width, height);
  else if (svg) {
    const url = URL.createObjectURL(new Blob([standalone(svg)], { type: "image/svg+xml" }));
    const image = new Image();
    await new Promise<void>((done, failed) => {
      image.onload = () => done();
      image.onerror = () => failed(new Error("the drawing cannot be read"));
      image.src = url;
    });
    pen.drawImage(image, 0, head, width, height);
    URL.revokeObjectURL(url);
  }
  const blob = await new Promise<Blob | null>((done) => out.toBlob(done, "image/png"));
  if (blob) save(`${name}.png`, blob);
};
