import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { readPth, writePth } from "../../src/artifacts/pth.js";
import { writeZip } from "../../src/artifacts/zip.js";
import { random } from "../../src/random.js";
import { scalar, tensor, type DType, type Tensor } from "../../src/tensor.js";

const fixture = (name: string): Buffer =>
  readFileSync(fileURLToPath(new URL(`../../../test/fixtures/${name}`, import.meta.url)));
const expected = JSON.parse(fixture("pth.json").toString()) as Record<
  string,
  { dtype: string; shape: number[]; values: number[] }
>;

/** IEEE half precision, from its bits. */
function half(bits: number): number {
  const [sign, exponent, fraction] = [bits >> 15 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
  return sign * (exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : (fraction / 1024) * 2 ** -14);
}
const numbers = (t: Tensor): number[] =>
  Array.from(t.data as ArrayLike<number | bigint>, (v) => (t.dtype === "float16" ? half(Number(v)) : Number(v)));

/** A file of one pickle, as torch.save would wrap it. */
const wrapped = (pickle: string): Uint8Array =>
  writeZip(new Map([["archive/data.pkl", Buffer.from(pickle, "latin1")]]));

describe("PyTorch's files", () => {
  it("written by torch are read: dtypes, views, shared storages, nested dicts", () => {
    const got = readPth(fixture("small.pth"));
    assert.deepEqual(Object.keys(got), Object.keys(expected));
    for (const [name, { dtype, shape, values }] of Object.entries(expected)) {
      assert.equal(got[name]!.dtype, dtype, name);
      assert.deepEqual(got[name]!.shape, shape, name);
      assert.deepEqual(numbers(got[name]!), values, name);
    }
  });
  it("of the time before 1.6 hold the same", () => {
    const [now, then] = [readPth(fixture("small.pth")), readPth(fixture("legacy.pth"))];
    for (const [name, t] of Object.entries(then)) assert.deepEqual(t, now[name], name);
    assert.equal(Object.keys(then).length, Object.keys(now).length - 2); // uint16 and uint32 are younger
  });
  it("come back as they were written", () => {
    const tensors = {
      "conv1.weight": tensor("float32", [2, 1, 1, 3], [1, -2, 3, 0.5, 1e-30, Infinity]),
      "bn1.num_batches_tracked": scalar(3, "int64"),
      empty: tensor("float32", [0, 4], []),
      ...Object.fromEntries(
        (["float64", "float16", "int32", "int8", "uint8", "bool"] as DType[]).map((d) => [d, tensor(d, [2], [0, 1])]),
      ),
    };
    const prefixed = Object.fromEntries(Object.entries(tensors).map(([k, t]) => [`model.${k}`, t]));
    const whole = { model: tensors, note: "é", epoch: 3, lr: 0.1, big: 2 ** 40, ok: true, none: null, list: [1, "a"] };
    assert.deepEqual(readPth(writePth(whole)), prefixed);
  });
  it("that name anything but weights are refused by name, and nothing is run", () => {
    assert.throws(
      () => readPth(wrapped("\x80\x02cposix\nsystem\nX\x04\x00\x00\x00true\x85R.")),
      /asks for posix\.system, which is no part of a file of weights; nothing was run\./,
    );
    assert.throws(() => readPth(wrapped("\x80\x04\x8c\x08builtins\x8c\x04eval\x93.")), /asks for builtins\.eval/);
    for (const opcode of ["i", "o", "\x82", "P"])
      assert.throws(
        () => readPth(wrapped(`\x80\x02(${opcode}.`)),
        /has opcode 0x\w\w, which files of weights do not use/,
      );
  });
  it("that lie about their storages are refused", () => {
    const honest = writePth({ w: tensor("float32", [2, 3], [1, 2, 3, 4, 5, 6]) });
    const tampered = (from: string, to: string): Uint8Array =>
      Buffer.from(Buffer.from(honest).toString("latin1").replace(from, to), "latin1");
    const six = "(J\x02\x00\x00\x00J\x03\x00\x00\x00t";
    assert.throws(
      () => readPth(tampered(six, "(J\x02\x00\x00\x00J\x04\x00\x00\x00t")),
      /w \[2,4\] reaches beyond its storage of 6/,
    );
    assert.throws(() => readPth(tampered(six, "(J\xff\xff\xff\xffJ\x03\x00\x00\x00t")), /reaches beyond its storage/);
    assert.throws(() => readPth(tampered("X\x01\x00\x00\x000", "X\x01\x00\x00\x009")), /storage 9 is missing/);
  });
  it("of other formats are refused in a sentence", () => {
    const tar = Buffer.alloc(512);
    tar.write("ustar", 257);
    assert.throws(() => readPth(tar), /tar archive, PyTorch's format before 0\.4/);
    assert.throws(() => readPth(Buffer.from("hello")), /neither a zip archive nor a pickle/);
    assert.throws(() => readPth(new Uint8Array()), /neither a zip archive nor a pickle/);
    assert.throws(() => readPth(wrapped("\x80\x02}q\x00h\x00X\x01\x00\x00\x00ah\x00s.").slice(0, -30)), /whole zip/);
  });
  it("that are cut short or altered end in a sentence, never in anything else", () => {
    const sources = [fixture("small.pth"), fixture("legacy.pth")];
    const seed = 11;
    const r = random(seed, "pth");
    for (const whole of sources) {
      for (let i = 0; i < 60; i++)
        assert.throws(() => readPth(whole.subarray(0, r.integer(whole.length - 1))), /Not a PyTorch file of weights/);
    }
    const altered = fc.tuple(
      fc.constantFrom(...sources),
      fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 })), { minLength: 1, maxLength: 4 }),
    );
    fc.assert(
      fc.property(altered, ([whole, changes]) => {
        const bytes = Uint8Array.from(whole);
        for (const [at, value] of changes) bytes[at % bytes.length] = value;
        try {
          readPth(bytes);
        } catch (error) {
          assert.match((error as Error).message, /^Not a PyTorch file of weights \(\d+ bytes\): .+\.$/s);
        }
      }),
      { seed, numRuns: 400 },
    );
  });
  it("whose parts hold themselves end in a sentence", () => {
    assert.throws(
      () => readPth(wrapped("\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s.")),
      /refer to one another without end/,
    );
  });
});
