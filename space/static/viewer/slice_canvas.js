// One slice on a canvas: window, zoom, maps as overlays, outline, side marks, scale, values under the pointer.
import { paint, toGrey, traceOutline } from "./colours.js";

export const LAYERS = { off: "Off", cnn: "ResNet (CNN)", vit: "ViT", fused: "Fused" };
const PANELS = ["off", "cnn", "vit", "fused"];
const BARS = [100, 50, 20, 10, 5, 2, 1]; // mm of the scale
const MOST_ZOOM = 12;

/**
 * Draw one slice. Nothing here asks for anything: all that is drawn was given to `setSlice`.
 *
 * Wheel and arrow keys go through the slices, a drag changes the window or moves the picture, two fingers zoom.
 */
export class SliceCanvas {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {{step: (by: number) => void, point: (words: string) => void, windowed: () => void}} host
   */
  constructor(canvas, host) {
    this.canvas = canvas;
    this.host = host;
    this.slice = null;
    this.layer = "fused";
    this.opacity = 0.5;
    this.outlined = true;
    this.drag = "window";
    this.window = null; // {low, high} that the reader chose; null: as the model was shown the slice
    this.resetView();
    this.pointers = new Map();
    this.scrolled = 0;
    canvas.addEventListener("wheel", (event) => this.onWheel(event), { passive: false });
    canvas.addEventListener("pointerdown", (event) => this.onDown(event));
    canvas.addEventListener("pointermove", (event) => this.onMove(event));
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => this.onUp(event));
    canvas.addEventListener("pointerleave", () => this.host.point(""));
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("dblclick", () => { this.resetView(); this.draw(); });
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  /** Show a slice, or nothing. The window stays unless the unit of the values is another one. */
  setSlice(slice) {
    if (!slice || slice.unit !== this.slice?.unit) this.window = null;
    if (!slice || slice.width !== this.slice?.width || slice.height !== this.slice?.height) this.resetView();
    this.slice = slice;
    this.pictures = new Map();
    this.outline = null;
    this.draw();
  }

  resetView() {
    this.zoom = 1;
    this.shift = { x: 0, y: 0 };
  }

  /** Zoom by a factor round a point of the canvas in CSS pixels; its middle where none is given. */
  zoomBy(factor, x = null, y = null) {
    const zoom = Math.min(MOST_ZOOM, Math.max(1, this.zoom * factor));
    const place = this.places()[0];
    if (!place) return;
    const centre = { x: place.cell.x + place.cell.width / 2, y: place.cell.y + place.cell.height / 2 };
    const at = { x: x ?? centre.x, y: y ?? centre.y };
    const ratio = zoom / this.zoom;
    this.shift.x = (this.shift.x - (at.x - centre.x)) * ratio + (at.x - centre.x);
    this.shift.y = (this.shift.y - (at.y - centre.y)) * ratio + (at.y - centre.y);
    this.zoom = zoom;
    if (zoom === 1) this.shift = { x: 0, y: 0 };
    this.draw();
  }

  /** The window that is drawn, {low, high} in the unit of the values. */
  get shownWindow() {
    return this.window ?? this.slice?.window ?? { low: 0, high: 255 };
  }

  setWindow(window) {
    this.window = window;
    this.pictures = new Map();
    this.draw();
    this.host.windowed();
  }

  get panels() {
    return this.layer === "all" ? PANELS : [this.layer];
  }

  /** The map that a layer draws; null where there is none or a branch's sum speaks against what it looks for. */
  mapOf(layer) {
    const map = this.slice?.maps?.[layer];
    return map && !map.silent ? map : null;
  }

  /** A slice with its map as a bitmap in its own pixels; made once for each window, opacity and layer. */
  pictureOf(layer) {
    const key = `${layer} ${layer === "off" ? 0 : this.opacity}`;
    if (!this.pictures.has(key)) {
      const { width, height, sign } = this.slice;
      const { low, high } = this.shownWindow;
      this.grey ??= { of: null };
      if (this.grey.of !== this.slice || this.grey.low !== low || this.grey.high !== high)
        this.grey = { of: this.slice, low, high, levels: toGrey(this.slice, low, high) };
      const bitmap = document.createElement("canvas");
      bitmap.width = width;
      bitmap.height = height;
      const image = paint(width, height, this.grey.levels, this.mapOf(layer), sign ?? 1, this.opacity);
      bitmap.getContext("2d").putImageData(image, 0, 0);
      this.pictures.set(key, bitmap);
    }
    return this.pictures.get(key);
  }

  /** Where each panel and its slice lie on the canvas, in CSS pixels. */
  places() {
    if (!this.slice) return [];
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const across = this.panels.length > 1 ? 2 : 1;
    return this.panels.map((layer, i) => {
      const cell = {
        x: ((i % across) * width) / across, y: (Math.floor(i / across) * height) / across,
        width: width / across, height: height / across,
      };
      const scale = Math.min(cell.width / this.slice.width, cell.height / this.slice.height) * this.zoom;
      return {
        layer, cell, scale,
        x: cell.x + (cell.width - this.slice.width * scale) / 2 + this.shift.x / (across > 1 ? 2 : 1),
        y: cell.y + (cell.height - this.slice.height * scale) / 2 + this.shift.y / (across > 1 ? 2 : 1),
      };
    });
  }

  draw() {
    const { canvas } = this;
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    const [width, height] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
    if (!width || !height) return;
    if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.fillStyle = "#000";
    pen.fillRect(0, 0, canvas.clientWidth, canvas.clientHeight);
    for (const place of this.places()) this.drawPanel(pen, place);
  }

  drawPanel(pen, { layer, cell, scale, x, y }) {
    const { slice } = this;
    pen.save();
    pen.beginPath();
    pen.rect(cell.x, cell.y, cell.width, cell.height);
    pen.clip();
    pen.imageSmoothingEnabled = true;
    pen.imageSmoothingQuality = "high";
    pen.drawImage(this.pictureOf(layer), x, y, slice.width * scale, slice.height * scale);
    if (slice.outline && this.outlined) {
      this.outline ??= traceOutline(slice.outline, slice.width, slice.height);
      pen.save();
      pen.translate(x, y);
      pen.scale(scale, scale);
      pen.lineWidth = 1.5 / scale;
      pen.strokeStyle = "#facc15";
      pen.stroke(this.outline);
      pen.restore();
    }
    this.drawMarks(pen, cell, scale, layer);
    pen.restore();
  }

  drawMarks(pen, cell, scale, layer) {
    const { slice } = this;
    const write = (words, x, y, align) => {
      pen.textAlign = align;
      pen.lineWidth = 3;
      pen.strokeStyle = "#000";
      pen.fillStyle = "#f8fafc";
      pen.strokeText(words, x, y);
      pen.fillText(words, x, y);
    };
    pen.font = "600 15px system-ui, sans-serif";
    pen.textBaseline = "middle";
    if (slice.left) {
      write(slice.left, cell.x + 8, cell.y + cell.height / 2, "left");
      write(slice.left === "R" ? "L" : "R", cell.x + cell.width - 8, cell.y + cell.height / 2, "right");
    }
    pen.font = "500 13px system-ui, sans-serif";
    if (this.panels.length > 1) write(LAYERS[layer] === "Off" ? "Slice" : LAYERS[layer], cell.x + 8, cell.y + 14, "left");
    if (!slice.spacing) return;
    const length = BARS.find((mm) => (mm / slice.spacing) * scale <= cell.width / 3) ?? 1;
    const wide = (length / slice.spacing) * scale;
    const [right, bottom] = [cell.x + cell.width - 12, cell.y + cell.height - 14];
    pen.fillStyle = "#000";
    pen.fillRect(right - wide - 1, bottom - 1, wide + 2, 5);
    pen.fillStyle = "#f8fafc";
    pen.fillRect(right - wide, bottom, wide, 3);
    write(`${length} mm`, right, bottom - 11, "right");
  }

  /** Say what lies under a point of the canvas, in CSS pixels. */
  describe(x, y) {
    for (const place of this.places()) {
      const { cell } = place;
      if (x < cell.x || y < cell.y || x >= cell.x + cell.width || y >= cell.y + cell.height) continue;
      const [column, row] = [Math.floor((x - place.x) / place.scale), Math.floor((y - place.y) / place.scale)];
      const { slice } = this;
      if (column < 0 || row < 0 || column >= slice.width || row >= slice.height) return "";
      const i = row * slice.width + column;
      const value = slice.values[i];
      const words = [`column ${column + 1}, row ${row + 1}`];
      words.push(`${Number.isInteger(value) ? value : value.toPrecision(4)}${slice.unit ? ` ${slice.unit}` : ""}`);
      const layer = place.layer === "off" ? null : this.mapOf(place.layer);
      if (layer) words.push(`map ${Math.round((100 * layer.data[i] * (slice.sign ?? 1)) / layer.strongest)} % of its strongest`);
      return words.join(" · ");
    }
    return "";
  }

  onWheel(event) {
    if (!this.slice) return;
    event.preventDefault();
    if (event.ctrlKey || event.metaKey) {
      this.zoomBy(Math.exp(-event.deltaY / 200), event.offsetX, event.offsetY);
      return;
    }
    this.scrolled += event.deltaMode ? event.deltaY * 40 : event.deltaY;
    const steps = Math.trunc(this.scrolled / 40); // a touchpad sends many small steps
    if (steps) {
      this.scrolled -= steps * 40;
      this.host.step(Math.sign(steps));
    }
  }

  onDown(event) {
    if (!this.slice) return;
    this.canvas.focus({ preventScroll: true });
    this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, { x: event.offsetX, y: event.offsetY });
    this.moved = 0;
  }

  onMove(event) {
    if (!this.slice) return;
    const last = this.pointers.get(event.pointerId);
    if (!last) {
      this.host.point(this.describe(event.offsetX, event.offsetY));
      return;
    }
    const [dx, dy] = [event.offsetX - last.x, event.offsetY - last.y];
    if (this.pointers.size === 2) {
      const [other] = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
      const before = Math.hypot(last.x - other.x, last.y - other.y);
      const after = Math.hypot(event.offsetX - other.x, event.offsetY - other.y);
      this.shift.x += dx / 2;
      this.shift.y += dy / 2;
      if (before > 0) this.zoomBy(after / before, (event.offsetX + other.x) / 2, (event.offsetY + other.y) / 2);
    } else if (event.pointerType === "touch" && this.zoom === 1) {
      this.moved += dy;
      const steps = Math.trunc(this.moved / 14);
      if (steps) {
        this.moved -= steps * 14;
        this.host.step(Math.sign(steps));
      }
    } else if (event.pointerType === "touch" || this.drag === "move" || event.shiftKey || event.buttons > 1) {
      this.shift.x += dx;
      this.shift.y += dy;
      this.draw();
    } else {
      this.dragWindow(dx, dy);
    }
    this.pointers.set(event.pointerId, { x: event.offsetX, y: event.offsetY });
  }

  /** To the right widens the window, upwards brightens; the whole width of the canvas doubles the window twice. */
  dragWindow(dx, dy) {
    const { low, high } = this.shownWindow;
    const width = Math.max((high - low) * Math.exp(dx / 250), this.slice.unit ? 1 : 1e-6);
    const centre = (low + high) / 2 + (dy / 250) * (high - low);
    this.setWindow({ low: centre - width / 2, high: centre + width / 2 });
  }

  onUp(event) {
    this.pointers.delete(event.pointerId);
  }
}
