import { Args, Flags } from "@oclif/core";
import { namings, type NamingName } from "../../graphs/names.js";
import { Base } from "../base.js";
import type { Format } from "../export.js";

export default class Export extends Base {
  static override description =
    "Writes an encoder as ONNX, safetensors or PyTorch's .pth, under the names of another toolkit, and prints how to load it there.";
  static override examples = [
    "<%= config.bin %> export runs/sample-1 --format pth --keys torchvision --out resnet18.pth",
    "<%= config.bin %> export runs/voc-1/encoder.onnx --format pth --keys detectron2 --out densecl-d2.pth",
  ];
  static override args = {
    encoder: Args.string({ required: true, description: "a run folder, or an encoder.onnx" }),
  };
  static override flags = {
    format: Flags.string({ required: true, options: ["onnx", "safetensors", "pth"], description: "kind of file" }),
    keys: Flags.string({
      options: Object.keys(namings),
      description: "whose names; default torchvision for ResNets, timm for ViTs",
    }),
    out: Flags.string({ required: true, description: "the file to write" }),
  };

  async run() {
    const { args, flags } = await this.parse(Export);
    const { exportEncoder } = await import("../export.js");
    const result = await exportEncoder(args.encoder, {
      format: flags.format as Format,
      keys: flags.keys as NamingName | undefined,
      out: flags.out,
    });
    this.say(`${result.out}: ${result.tensors} tensors, named as in ${namings[result.keys].summary}.`);
    if (!this.jsonEnabled()) this.log(result.snippet);
    return result;
  }
}
