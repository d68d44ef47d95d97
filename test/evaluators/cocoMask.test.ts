import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { mask } from "../../evaluators/coco/index.js";

const { masks } = JSON.parse(
  readFileSync(fileURLToPath(new URL("../../../test/fixtures/coco/answers.json", import.meta.url)), "utf8"),
) as {
  masks: {
    size: [number, number];
    polygons: number[][];
    counts: string[];
    area: number[];
    bbox: number[][];
    union: string;
    intersection: string;
    iou: number;
    crowd: number;
  }[];
};

const bitmap = (height: number, width: number) =>
  fc.array(fc.integer({ min: 0, max: 1 }), { minLength: height * width, maxLength: height * width });
const pair = fc
  .tuple(fc.integer({ min: 1, max: 7 }), fc.integer({ min: 1, max: 7 }))
  .chain(([h, w]) => fc.tuple(fc.constant(h), fc.constant(w), bitmap(h, w), bitmap(h, w)));

/** Walks every fifth of a pixel along the edges, as maskApi does; the crossings by columns, each column filled between pairs. */
function walked(points: number[], height: number, width: number): Uint8Array {
  const vertices = Array.from({ length: points.length / 2 }, (_, k) =>
    [points[2 * k]!, points[2 * k + 1]!].map((v) => Math.trunc(5 * v + 0.5)),
  );
  const path: [number, number][] = [];
  vertices.forEach(([x0, y0], k) => {
    const [x1, y1] = vertices[(k + 1) % vertices.length]!;
    const steps = Math.max(Math.abs(x1! - x0!), Math.abs(y1! - y0!));
    const along = Math.abs(x1! - x0!) >= Math.abs(y1! - y0!) ? 0 : 1;
    const [from, to] = [[x0!, y0!] as const, [x1!, y1!] as const];
    const flip = from[along]! > to[along]!;
    const [a, b] = flip ? [to, from] : [from, to];
    for (let d = 0; d <= steps; d++) {
      const t = flip ? steps - d : d;
      const slope = steps ? (b[1 - along]! - a[1 - along]!) / steps : 0;
      const other = Math.trunc(a[1 - along]! + slope * t + 0.5);
      path.push(along === 0 ? [t + a[0], other] : [other, t + a[1]]);
    }
  });
  const toggles = Array.from({ length: width }, () => [] as number[]);
  for (let j = 1; j < path.length; j++) {
    const [[u, v], [u0, v0]] = [path[j]!, path[j - 1]!];
    const x = (Math.min(u, u0 === u ? u : u < u0 ? u : u - 1) + 0.5) / 5 - 0.5;
    if (u === u0 || !Number.isInteger(x) || x < 0 || x > width - 1) continue;
    toggles[x]!.push(Math.ceil(Math.min(Math.max((Math.min(v, v0) + 0.5) / 5 - 0.5, 0), height)));
  }
  const pixels = new Uint8Array(height * width);
  toggles.forEach((rows, x) => {
    for (const row of rows) for (let p = x * height + row; p < pixels.length; p++) pixels[p]! ^= 1;
  });
  return pixels;
}

describe("masks, beside pycocotools.mask", () => {
  it("draws, measures and joins its polygons with its bits", () => {
    for (const { size, polygons, counts, area, bbox, union, intersection, iou, crowd } of masks) {
      const [a, b] = polygons.map((p) => mask.fromPolygon(p, ...size)) as [mask.Rle, mask.Rle];
      assert.deepEqual([a, b].map(mask.toString), counts);
      assert.deepEqual([a, b].map(mask.area), area);
      assert.deepEqual(
        [a, b].map((m) => [...mask.toBbox(m)]),
        bbox,
      );
      assert.equal(mask.toString(mask.merge([a, b])), union);
      assert.equal(mask.toString(mask.merge([a, b], true)), intersection);
      assert.equal(mask.iou([a], [b], [0])[0], iou);
      assert.equal(mask.iou([a], [b], [1])[0], crowd);
      assert.deepEqual(
        counts.map((c) => mask.fromString(c, ...size)),
        [a, b],
      );
    }
  });
});

describe("masks by themselves", () => {
  it("draw the pixels that a walk along the edges gives", () => {
    const coordinate = fc.oneof(fc.integer({ min: -5, max: 40 }), fc.float({ min: -5, max: 40, noNaN: true }));
    fc.assert(
      fc.property(fc.array(coordinate, { minLength: 6, maxLength: 16 }), (numbers) => {
        const points = numbers.slice(0, numbers.length & ~1);
        assert.deepEqual(mask.decode(mask.fromPolygon(points, 30, 34)), walked(points, 30, 34));
      }),
      { numRuns: 300 },
    );
  });
  it("come back from run lengths and from text", () =>
    fc.assert(
      fc.property(pair, ([h, w, a]) => {
        const rle = mask.encode(Uint8Array.from(a), h, w);
        assert.deepEqual([...mask.decode(rle)], a);
        assert.deepEqual(mask.fromString(mask.toString(rle), h, w), rle);
        assert.equal(mask.area(rle), a.filter(Boolean).length);
      }),
    ));
  it("join and overlap as their pixels do", () =>
    fc.assert(
      fc.property(pair, ([h, w, a, b]) => {
        const [ra, rb] = [a, b].map((m) => mask.encode(Uint8Array.from(m), h, w)) as [mask.Rle, mask.Rle];
        const both = a.filter((v, i) => v && b[i]).length;
        const either = a.filter((v, i) => v || b[i]).length;
        assert.deepEqual(
          [...mask.decode(mask.merge([ra, rb]))],
          a.map((v, i) => v | b[i]!),
        );
        assert.deepEqual(
          [...mask.decode(mask.merge([ra, rb], true))],
          a.map((v, i) => v & b[i]!),
        );
        assert.equal(mask.iou([ra], [rb], [0])[0], both ? both / either : 0);
        assert.equal(mask.iou([ra], [rb], [1])[0], both ? both / a.filter(Boolean).length : 0);
      }),
    ));
  it("lie in the box around their pixels", () =>
    fc.assert(
      fc.property(pair, ([h, w, a]) => {
        fc.pre(a.some(Boolean));
        // a run over a column's end counts both columns whole, as in maskApi: boxes of filled columns only are exact
        const columns = a.map((_, i) => a.slice(h * Math.floor(i / h), h * (Math.floor(i / h) + 1)).some(Boolean));
        const [x, y, bw, bh] = mask.toBbox(mask.encode(Uint8Array.from(a), h, w)) as unknown as [
          number,
          number,
          number,
          number,
        ];
        const xs = columns.flatMap((c, i) => (c ? [Math.floor(i / h)] : []));
        assert.deepEqual([x, x + bw - 1], [Math.min(...xs), Math.max(...xs)]);
        a.forEach((v, i) => assert.ok(!v || (i % h >= y && i % h < y + bh)));
      }),
    ));
  it("refuse run lengths that do not cover their size", () => {
    const short = { height: 3, width: 3, counts: Uint32Array.of(2, 3) };
    assert.throws(() => mask.iou([short], [short], [0]), /The run lengths cover 5 pixels, but a 3 × 3 mask has 9\./);
    assert.throws(() => mask.decode({ ...short, counts: Uint32Array.of(2, 30) }), /go past the 9 pixels/);
  });
});
