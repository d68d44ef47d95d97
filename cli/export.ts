/** Export: an encoder's weights as other toolkits read them, with the settings to read them by. */
import { copyFile, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { network, type EncoderInfo } from "../graphs/encoder.js";
import { namings, toTheirs, type Naming, type NamingName } from "../graphs/names.js";
import { writePth, type Checkpoint } from "../src/artifacts/pth.js";
import { writeSafetensors } from "../src/artifacts/safetensors.js";
import { readInitializers, readModel } from "../src/onnx/model.js";
import { scalar, type Tensors } from "../src/tensor.js";

export type Format = "onnx" | "safetensors" | "pth";

export interface Exported {
  out: string;
  format: Format;
  keys: NamingName;
  tensors: number;
  /** How to read the file: Python or YAML to paste. */
  snippet: string;
}

/** Writes the encoder of a run, or an encoder.onnx, to a file. */
export async function exportEncoder(
  source: string,
  { format, keys, out }: { format: Format; keys?: NamingName; out: string },
): Promise<Exported> {
  const file = await encoderFile(source);
  const bytes = await readFile(file).catch((e: Error) => {
    throw new Error(`Encoder ${file} cannot be read: ${e.message}`, { cause: e });
  });
  const { diptych } = readModel(bytes).metadata;
  const info = diptych ? (JSON.parse(diptych) as EncoderInfo) : undefined;
  const weights = Object.fromEntries(
    Object.entries(readInitializers(bytes)).filter(([n]) => !n.startsWith("constant/")),
  );
  if (format === "onnx") {
    if (keys && keys !== "own") throw new Error(`An ONNX file keeps its own names: leave --keys ${keys} out.`);
    await copyFile(file, out);
    return {
      out,
      format,
      keys: "own",
      tensors: Object.keys(weights).length,
      snippet: info ? onnxSnippet(info, out) : "",
    };
  }
  const chosen = keys ?? usualKeys(info);
  refuseOthers(chosen, info);
  const theirs = toTheirs(namings[chosen] as Naming, chosen === "own" ? weights : withCounters(weights));
  await writeFile(
    out,
    format === "pth" ? writePth(container(chosen, theirs)) : writeSafetensors(theirs, { format: "pt" }),
  );
  return {
    out,
    format,
    keys: chosen,
    tensors: Object.keys(theirs).length,
    snippet: info ? snippets[chosen](info, out) : "",
  };
}

async function encoderFile(source: string): Promise<string> {
  const found = await stat(source).catch(() => undefined);
  if (!found) throw new Error(`There is no run and no encoder at ${source}.`);
  if (!found.isDirectory()) return source;
  const file = join(source, "encoder.onnx");
  if (await stat(file).catch(() => undefined)) return file;
  throw new Error(`${source} holds no encoder.onnx yet. Let the run end: diptych pretrain --resume --out ${source}`);
}

const isResNet = (info?: EncoderInfo): boolean => info?.backbone.startsWith("resnet") ?? false;
const isViT = (info?: EncoderInfo): boolean => info?.backbone.startsWith("vit") ?? false;
const usualKeys = (info?: EncoderInfo): NamingName => (isResNet(info) ? "torchvision" : isViT(info) ? "timm" : "own");

function refuseOthers(keys: NamingName, info?: EncoderInfo): void {
  if ((keys === "detectron2" || keys === "mmdet") && info && info.mean.length !== 3)
    throw new Error(`--keys ${keys}: its detectors take RGB, this encoder images of ${info.mean.length} channels.`);
  if (keys === "own" || isResNet(info) || (keys === "timm" && isViT(info))) return;
  throw new Error(
    `--keys ${keys} names ${namings[keys].summary}; this encoder is ${info ? `a ${info.backbone}` : "not one of ours"}. Use --keys ${usualKeys(info)}.`,
  );
}

/** BatchNorm's num_batches_tracked, which PyTorch reads only where momentum is None: 0. */
function withCounters(weights: Tensors): Tensors {
  return Object.fromEntries(
    Object.entries(weights).flatMap(([name, t]) =>
      name.endsWith("running_var")
        ? [
            [name, t],
            [name.replace("running_var", "num_batches_tracked"), scalar(0, "int64")],
          ]
        : [[name, t]],
    ),
  );
}

/** What each toolkit's loader expects around the names. */
function container(keys: NamingName, tensors: Tensors): Checkpoint {
  if (keys === "detectron2") return { model: tensors, __author__: "diptych", matching_heuristics: true };
  if (keys === "mmdet") return { meta: {}, state_dict: tensors };
  return tensors;
}

const onnxSnippet = ({ mean }: EncoderInfo, out: string): string =>
  `import onnxruntime\nfeatures, feature_map = onnxruntime.InferenceSession("${out}").run(["features", "map"], {"image": image})  # float32 [B,${mean.length},H,W], ${pixels(mean)} in 0–1`;
/** What the channels of an image are. */
const pixels = (mean: readonly number[]): string => ["", "grey", "", "RGB", "RGB and alpha"][mean.length]!;

interface ResNetOptions {
  stem: "imagenet" | "cifar";
  width: number;
  outputStride: number;
}
interface ViTOptions {
  embedDim: number;
  depth: number;
  numHeads: number;
  mlpRatio: number;
  patchSize: number;
  qkvBias: boolean;
  epsilon: number;
}
const optionsOf = <T>(info: EncoderInfo): T => network(info.backbone, info.options).options as T;
const depthOf = (info: EncoderInfo): number => Number(/\d+/.exec(info.backbone)?.[0]);
const list = (v: readonly number[], scale = 1): string => `[${v.map((x) => +(x * scale).toFixed(4)).join(", ")}]`;
const normalization = ({ mean, std, size }: EncoderInfo): string =>
  `# images: ${pixels(mean)} in 0–1, then (image - mean)/std with mean ${list(mean)}, std ${list(std)}; trained at ${size} px`;
const imports = (out: string, modules: string): string =>
  `import ${out.endsWith(".safetensors") ? "safetensors.torch, " : ""}${modules}`;
const loading = (out: string): string =>
  out.endsWith(".safetensors")
    ? `net.load_state_dict(safetensors.torch.load_file("${out}"), strict=True)`
    : `net.load_state_dict(torch.load("${out}", weights_only=True), strict=True)`;
const lines = (...parts: (string | false)[]): string => parts.filter((p) => p !== false).join("\n");

/** The network as a toolkit makes it, with the stem that ours has. */
function resNet(info: EncoderInfo, made: string): string {
  const { stem, width, outputStride } = optionsOf<ResNetOptions>(info);
  const channels = info.mean.length;
  return lines(
    width === 64
      ? `net = ${made}`
      : `net = …  # ${made} begins with 64 channels, this network with ${width}: build one that does`,
    stem === "cifar" &&
      `net.conv1, net.maxpool = torch.nn.Conv2d(${channels}, ${width}, 3, 1, 1, bias=False), torch.nn.Identity()  # CIFAR stem`,
    stem !== "cifar" &&
      channels !== 3 &&
      `net.conv1 = torch.nn.Conv2d(${channels}, ${width}, 7, 2, 3, bias=False)  # ${pixels(info.mean)}`,
    dilated(outputStride),
  );
}

/** Networks with the same weights and the usual strides give other features. */
const dilated = (outputStride: number): string | false =>
  outputStride < 32 &&
  `# trained with an output stride of ${outputStride}: its last stages are dilated in place of strides; dilate them here too`;

/** How each toolkit is told to read the file. */
const snippets: Record<NamingName, (info: EncoderInfo, out: string) => string> = {
  own: (info) => normalization(info),
  torchvision: (info, out) =>
    lines(
      imports(out, "torch, torchvision"),
      resNet(info, `torchvision.models.${info.backbone}()`),
      "net.fc = torch.nn.Identity()",
      loading(out),
      normalization(info),
    ),
  timm: (info, out) =>
    lines(
      imports(out, "functools, timm, torch"),
      isViT(info) ? timmViT(info) : resNet(info, `timm.create_model("${info.backbone}", num_classes=0)`),
      loading(out),
      normalization(info),
    ),
  detectron2(info, out) {
    const { stem, width, outputStride } = optionsOf<ResNetOptions>(info);
    return lines(
      `MODEL:  # ${out}: RGB, stride in the 3×3 convolution`,
      `  WEIGHTS: "${out}"`,
      `  PIXEL_MEAN: ${list(info.mean, 255)}`,
      `  PIXEL_STD: ${list(info.std, 255)}`,
      "  BACKBONE:",
      "    FREEZE_AT: 0",
      "  RESNETS:",
      `    DEPTH: ${depthOf(info)}`,
      depthOf(info) < 50 && `    RES2_OUT_CHANNELS: ${width}`,
      width !== 64 && `    STEM_OUT_CHANNELS: ${width}`,
      "    STRIDE_IN_1X1: False",
      '    NORM: "SyncBN"',
      "INPUT:",
      '  FORMAT: "RGB"',
      "TEST:",
      "  PRECISE_BN:",
      "    ENABLED: True",
      stem === "cifar" && "# this network has the CIFAR stem, detectron2's the 7×7/2 one: stem.conv1 will not fit",
      dilated(outputStride),
    );
  },
  mmdet(info, out) {
    const { stem, width, outputStride } = optionsOf<ResNetOptions>(info);
    return lines(
      "model = dict(",
      `    data_preprocessor=dict(mean=${list(info.mean, 255)}, std=${list(info.std, 255)}, bgr_to_rgb=True),`,
      "    backbone=dict(",
      `        type='ResNet', depth=${depthOf(info)},${width === 64 ? "" : ` stem_channels=${width}, base_channels=${width},`} style='pytorch', frozen_stages=-1,`,
      "        norm_cfg=dict(type='SyncBN', requires_grad=True), norm_eval=False,",
      `        init_cfg=dict(type='Pretrained', prefix='backbone.', checkpoint='${out}')))`,
      stem === "cifar" && "# this network has the CIFAR stem, mmdetection's the 7×7/2 one: conv1 will not fit",
      dilated(outputStride),
    );
  },
};

function timmViT(info: EncoderInfo): string {
  const o = optionsOf<ViTOptions>(info);
  const python = (b: boolean): string => (b ? "True" : "False");
  return lines(
    "net = timm.models.vision_transformer.VisionTransformer(",
    `    img_size=${info.size}, patch_size=${o.patchSize}, in_chans=${info.mean.length}, embed_dim=${o.embedDim}, depth=${o.depth}, num_heads=${o.numHeads}, mlp_ratio=${o.mlpRatio},`,
    `    qkv_bias=${python(o.qkvBias)}, class_token=True, num_classes=0, norm_layer=functools.partial(torch.nn.LayerNorm, eps=${o.epsilon}))`,
  );
}
