/**
 * Polygons to run lengths, as pycocotools' maskApi draws them: vertices rounded to a fifth of a pixel, edges walked in such steps, and of each
 * column's middle line the rows kept where an edge crosses it. maskApi walks every step; here only the crossings are computed, to the same bits.
 */
import type { Masks } from "./columns.js";
import { expand, mergeOf, type Rle } from "./rle.js";

/** Steps a pixel. */
const scale = 5;
/** The step of a column's middle: maskApi keeps a step u where (u + ½)/5 − ½ is whole. */
const middle = 2;

/** Where masks are drawn: the counts of many, one behind the other, and room to work in. */
export class Canvas {
  counts = new Uint32Array(1 << 16);
  used = 0;
  /** Crossings: column and row, as they come. */
  private column = new Int32Array(1 << 12);
  private row = new Int32Array(1 << 12);
  private crossings = 0;
  /** By column: the number of crossings, then where the next one goes. */
  private place = new Int32Array(1 << 10);
  private sorted = new Float64Array(1 << 12);

  /** Draws row i: the union of its polygons, or its run lengths; its counts stand at the end of `counts`. */
  mask(masks: Masks, i: number): void {
    const first = this.used;
    if (masks.isPolygon(i))
      for (let part = masks.first.data[i]!; part < masks.end.data[i]!; part++) {
        const own = this.used;
        const [height, width] = [masks.height.data[i]!, masks.width.data[i]!];
        this.polygon(masks.points.data, masks.partStart(part), masks.partStart(part + 1), height, width);
        if (own > first) this.unite(first, own);
      }
    else {
      const [from, to] = masks.textOf(i);
      this.reserve(to - from);
      this.used += expand(masks.text, from, to, this.counts, first);
    }
  }

  /** Room for n more counts. */
  reserve(n: number): void {
    if (this.used + n <= this.counts.length) return;
    const larger = new Uint32Array(2 * (this.used + n));
    larger.set(this.counts.subarray(0, this.used));
    this.counts = larger;
  }

  /** Draws the polygon x, y, … of points[from…to − 1]; its counts stand at the end of `counts`. */
  polygon(points: Float64Array, from: number, to: number, height: number, width: number): void {
    this.crossings = 0;
    if (width >= this.place.length) this.place = new Int32Array(2 * width);
    const vertices = (to - from) >> 1;
    for (let k = 0; k < vertices; k++) {
      const next = k + 1 < vertices ? k + 1 : 0;
      this.edge(
        (scale * points[from + 2 * k]! + 0.5) | 0,
        (scale * points[from + 2 * k + 1]! + 0.5) | 0,
        (scale * points[from + 2 * next]! + 0.5) | 0,
        (scale * points[from + 2 * next + 1]! + 0.5) | 0,
        height,
        width,
      );
    }
    this.runs(height, width);
  }

  /** Notes where an edge crosses the middle of a column: at steps u, u + 1 with u the column's middle, the upper row. */
  private edge(x0: number, y0: number, x1: number, y1: number, height: number, width: number): void {
    const left = Math.min(x0, x1);
    const right = Math.max(x0, x1);
    const dx = right - left;
    const dy = Math.abs(y1 - y0);
    let column = left <= middle ? 0 : Math.ceil((left - middle) / scale);
    const last = Math.min(width - 1, Math.ceil((right - middle) / scale) - 1);
    if (dx >= dy) {
      const start = x0 < x1 ? y0 : y1;
      const slope = (x0 < x1 ? y1 - y0 : y0 - y1) / dx;
      for (; column <= last; column++) {
        const t = scale * column + middle - left;
        this.note(column, Math.min((start + slope * t + 0.5) | 0, (start + slope * (t + 1) + 0.5) | 0), height);
      }
    } else {
      // steps t go down the rows: the last that has u on its side, where the next has it not
      const xs = y0 < y1 ? x0 : x1;
      const top = Math.min(y0, y1);
      const slope = (x0 + x1 - xs - xs) / dy;
      for (; column <= last; column++) {
        const u = scale * column + middle;
        const estimate = (u + 0.5 - xs) / slope;
        let t = slope > 0 ? Math.ceil(estimate) - 1 : Math.floor(estimate);
        const beyond = (step: number): boolean => ((xs + slope * step + 0.5) | 0) > u === slope > 0;
        while (beyond(t)) t--;
        while (!beyond(t + 1)) t++;
        this.note(column, top + t, height);
      }
    }
  }
  private note(column: number, v: number, height: number): void {
    if (this.crossings === this.column.length) {
      [this.column, this.row] = [doubled(this.column), doubled(this.row)];
      this.sorted = new Float64Array(this.column.length);
    }
    this.column[this.crossings] = column;
    this.row[this.crossings++] = v <= middle ? 0 : Math.min(height, ((v + scale - 1 - middle) / scale) | 0);
    this.place[column]!++;
  }

  /** Crossings in the order of pixels are the ends of runs. */
  private runs(height: number, width: number): void {
    const { column, row, place, sorted, crossings } = this;
    for (let x = 0, sum = 0; x < width; x++) {
      const n = place[x]!;
      place[x] = sum;
      sum += n;
    }
    for (let i = 0; i < crossings; i++) sorted[place[column[i]!]!++] = column[i]! * height + row[i]!;
    place.fill(0, 0, width);
    for (let i = 1; i < crossings; i++) {
      // by columns it is sorted: only the few of one column change places
      const pixel = sorted[i]!;
      let p = i;
      for (; p > 0 && sorted[p - 1]! > pixel; p--) sorted[p] = sorted[p - 1]!;
      sorted[p] = pixel;
    }
    this.reserve(crossings + 1);
    const { counts } = this;
    // two crossings at one pixel cancel: the runs on their sides become one
    let n = this.used;
    let previous = 0;
    let joined = false;
    for (let i = 0; i <= crossings; i++) {
      const end = i < crossings ? sorted[i]! : height * width;
      const run = end - previous;
      previous = end;
      if (joined) {
        counts[n - 1]! += run;
        joined = false;
      } else if (run > 0 || i === 0) counts[n++] = run;
      else joined = true;
    }
    this.used = n;
  }

  /** Replaces the counts of two masks, [first, second) and [second, used), by those of their union. */
  unite(first: number, second: number): void {
    const end = this.used;
    this.reserve(end - first);
    const n = mergeOf(this.counts, first, second, this.counts, second, end, false, this.counts, end);
    this.counts.copyWithin(first, end, end + n);
    this.used = first + n;
  }
}

const doubled = (array: Int32Array<ArrayBuffer>): Int32Array<ArrayBuffer> => {
  const larger = new Int32Array(2 * array.length);
  larger.set(array);
  return larger;
};

/** The mask inside a polygon x, y, x, y, …. */
export function fromPolygon(points: ArrayLike<number>, height: number, width: number): Rle {
  const canvas = new Canvas();
  canvas.polygon(Float64Array.from(points), 0, points.length, height, width);
  return { height, width, counts: canvas.counts.slice(0, canvas.used) };
}

/** The mask inside a box [x, y, w, h]. */
export function fromBbox([x, y, w, h]: readonly [number, number, number, number], height: number, width: number): Rle {
  return fromPolygon([x, y, x, y + h, x + w, y + h, x + w, y], height, width);
}
