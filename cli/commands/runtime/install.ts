import { Flags } from "@oclif/core";
import { Base } from "../../base.js";

export default class Install extends Base {
  static override description =
    "Fetches the training library for this platform, or installs it from a jar. DIPTYCH_MAVEN names a mirror of Maven Central; HTTPS_PROXY counts on Node 22.21 and later.";
  static override examples = [
    "<%= config.bin %> runtime install",
    "<%= config.bin %> runtime install --cuda",
    "<%= config.bin %> runtime install --library onnxruntime-1.28.0-1.5.14-linux-x86_64.jar",
  ];
  static override flags = {
    library: Flags.string({ description: "a jar fetched by hand" }),
    cuda: Flags.boolean({ description: "the build with CUDA 13 kernels (165 MB; Linux and Windows on x64)" }),
    force: Flags.boolean({ description: "fetch it again even if it is there" }),
  };

  async run() {
    const { flags } = await this.parse(Install);
    const { libraryWithProgress } = await import("../../engine.js");
    const { install, trainingLibrary } = await import("../../../src/runtimes.js");
    const device = flags.cuda ? "cuda" : "cpu";
    const library = await libraryWithProgress(
      flags.force ? install : trainingLibrary,
      { library: flags.library, device },
      this.say,
    );
    this.log(library);
    return { library };
  }
}
