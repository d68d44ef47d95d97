"""One evaluation by a peer of diptych coco-eval: coco_peer.py LIBRARY GT DT IOU prints {"stats"}."""
import contextlib, io, json, sys

library, gt_file, dt_file, iou = sys.argv[1:]
if library == "pycocotools":
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval as Eval
elif library == "hotcoco":
    from hotcoco import COCO, COCOeval as Eval
else:
    from faster_coco_eval import COCO, COCOeval_faster as Eval
with contextlib.redirect_stdout(io.StringIO()):
    gt = COCO(gt_file)
    dt = (gt.loadRes if hasattr(gt, "loadRes") else gt.load_res)(dt_file)
    e = Eval(gt, dt, iou)
    e.evaluate()
    e.accumulate()
    e.summarize()
print(json.dumps({"stats": [float(v) for v in list(e.stats)[:12]]}))
