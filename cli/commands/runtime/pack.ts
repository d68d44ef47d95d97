import { Flags } from "@oclif/core";
import { Base } from "../../base.js";

export default class Pack extends Base {
  static override description =
    "Packs node, diptych, its dependencies and the training library for a machine of the same platform without a network: parts of one archive, and unpack.sh.";
  static override examples = [
    "<%= config.bin %> runtime pack --out parcel/",
    "<%= config.bin %> runtime pack --cuda --out parcel/ --part-size 60M",
  ];
  static override flags = {
    out: Flags.string({ required: true, description: "folder to write" }),
    "part-size": Flags.string({ default: "60M", description: "largest part: K, M and G are powers of 1000" }),
    cuda: Flags.boolean({ description: "the build with CUDA kernels; the CUDA and cuDNN libraries stay out" }),
  };

  async run() {
    const { flags } = await this.parse(Pack);
    const { dirname } = await import("node:path");
    const { libraryWithProgress } = await import("../../engine.js");
    const { bytesOf, pack } = await import("../../pack.js");
    const { installedLibrary } = await import("../../../src/runtimes.js");
    const device = flags.cuda ? "cuda" : "cpu";
    const partSize = bytesOf(flags["part-size"]);
    const library = await libraryWithProgress(installedLibrary, { device }, this.say);
    const { parts, bytes } = await pack(dirname(library), flags.out, partSize);
    this.log(`${flags.out}: ${parts.length} parts, ${(bytes / 1e6).toFixed(1)} MB; unpack with: sh unpack.sh DIR`);
    return { out: flags.out, parts, bytes };
  }
}
