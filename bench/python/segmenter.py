"""The torch side of `evaluate segmentation`: torchvision's ResNet-18 with dilated stages and mmsegmentation's FCNHead, named as there."""
import torch, torch.nn as nn, torch.nn.functional as F
import torchvision


def dilated_resnet18(output_stride):
    """mmsegmentation's strides, dilations and contract_dilation: conv1 of a basic block dilates, the first block of a stage by half."""
    net = torchvision.models.resnet18(weights=None)
    net.fc = nn.Identity()
    reached, dilation = 8, 1
    for stage in (net.layer3, net.layer4):
        keep = reached >= output_stride
        for i, block in enumerate(stage):
            if keep and i == 0:
                block.conv1.stride = block.downsample[0].stride = (1, 1)
            d = 2 * dilation if keep and i else dilation
            block.conv1.dilation = block.conv1.padding = (d, d)
        reached, dilation = (reached, 2 * dilation) if keep else (2 * reached, dilation)
    return net


class ConvModule(nn.Module):
    def __init__(self, i, o, dilation=1):
        super().__init__()
        self.conv = nn.Conv2d(i, o, 3, padding=dilation, dilation=dilation, bias=False)
        self.bn = nn.BatchNorm2d(o)

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)))


class FCNHead(nn.Module):
    def __init__(self, width, channels, classes, convs=2, dilation=1, concat=True):
        super().__init__()
        self.convs = nn.Sequential(*[ConvModule(width if i == 0 else channels, channels, dilation) for i in range(convs)])
        if concat:
            self.conv_cat = ConvModule(width + channels, channels)
        self.concat = concat
        self.conv_seg = nn.Conv2d(channels, classes, 1)

    def forward(self, x, mask=None):
        y = self.convs(x)
        if self.concat:
            y = self.conv_cat(torch.cat([x, y], 1))
        return self.conv_seg(y if mask is None else y * mask)


class Segmenter(nn.Module):
    """image in 0-1 -> logits of the head and of the auxiliary head on C4"""

    def __init__(self, channels, classes, output_stride, convs=2, dilation=1, auxiliary=True, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)):
        super().__init__()
        self.backbone = dilated_resnet18(output_stride)
        self.decode_head = FCNHead(512, channels, classes, convs, dilation)
        self.auxiliary_head = FCNHead(256, channels // 2, classes, 1, concat=False) if auxiliary else None
        self.mean, self.std = (torch.tensor(v).view(1, 3, 1, 1) for v in (mean, std))

    def forward(self, image, masks=(None, None)):
        b = self.backbone
        x = b.maxpool(b.relu(b.bn1(b.conv1((image - self.mean) / self.std))))
        c4 = b.layer3(b.layer2(b.layer1(x)))
        logits = self.decode_head(b.layer4(c4), masks[0])
        return logits, self.auxiliary_head(c4, masks[1]) if self.auxiliary_head else None


def resized(logits, size, align_corners=False):
    return F.interpolate(logits, size=tuple(size), mode="bilinear", align_corners=align_corners)


def loss_of(model, image, labels, weight=0.4, masks=(None, None), align_corners=False):
    logits, auxiliary = model(image, masks)
    ce = lambda x: F.cross_entropy(resized(x, labels.shape[1:], align_corners), labels, ignore_index=255)
    return ce(logits) + (weight * ce(auxiliary) if auxiliary is not None else 0)
