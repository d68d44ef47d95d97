"""MoCo views by torchvision on PIL images, one thread: a line with seconds in, a line with views a CPU second out."""
import argparse
import random
import sys
import time

import numpy as np
import torch
import torchvision.transforms as T
from PIL import Image, ImageFilter


class GaussianBlur:
    """As in MoCo-v2 (moco/loader.py): PIL's blur, radius uniform in 0.1 ... 2."""

    def __call__(self, image):
        return image.filter(ImageFilter.GaussianBlur(radius=random.uniform(0.1, 2.0)))


def moco_view(size, blur):
    return T.Compose(
        [
            T.RandomResizedCrop(size, scale=(0.2, 1.0)),
            T.RandomHorizontalFlip(),
            T.RandomApply([T.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
            T.RandomGrayscale(p=0.2),
            *([T.RandomApply([GaussianBlur()], p=0.5)] if blur else []),
            T.ToTensor(),
            T.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--size", type=int, required=True)
    arguments.add_argument("--source", type=int, required=True)
    arguments.add_argument("--no-blur", action="store_true")
    a = arguments.parse_args()
    torch.set_num_threads(1)
    noise = np.random.default_rng(0).integers(0, 256, (a.source, a.source, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    view = moco_view(a.size, not a.no_blur)
    for line in sys.stdin:
        cpu, end, views = time.process_time(), time.perf_counter() + float(line), 0
        while time.perf_counter() < end:
            view(image)
            views += 1
        print(views / (time.process_time() - cpu), flush=True)


if __name__ == "__main__":
    main()
