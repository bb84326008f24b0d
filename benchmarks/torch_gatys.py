"""The objective of the preset gatys in PyTorch, as somebody who knows PyTorch would write it."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as nnf
from minimal_nst.architecture import CONVOLUTIONS

STYLE_TAPS = {"conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1"}


class Torch:
    """The same objective as the preset gatys, by autograd."""

    def __init__(self, weights, content, style, channels_last=False, compiled=False, device="cpu"):
        self.device = device
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        self.parameters = []
        for name in list(CONVOLUTIONS)[:13]:
            kernel, bias = weights[name.replace("conv", "block").replace("_", "_conv")]
            kernel = torch.from_numpy(kernel).permute(3, 2, 0, 1).contiguous()
            bias = torch.from_numpy(bias.copy())
            kernel = kernel.to(device, memory_format=self.format)
            self.parameters.append((name, kernel, bias.to(device)))
        with torch.no_grad():
            self.content = self.features(self.upload(content))[0].clone()
            self.grams = [self.gram(F) for F in self.features(self.upload(style))[1]]
        self.evaluate = torch.compile(self.loss) if compiled else self.loss

    def upload(self, image):
        x = image.astype("float32")[..., ::-1] - np.float32([103.939, 116.779, 123.68])
        x = torch.from_numpy(np.ascontiguousarray(x.transpose(2, 0, 1)))[None]
        return x.to(self.device).contiguous(memory_format=self.format)

    def features(self, x):
        styles, content = [], None
        for name, kernel, bias in self.parameters:
            if name.endswith("_1") and name != "conv1_1":
                x = nnf.max_pool2d(x, 2)
            x = nnf.relu(nnf.conv2d(x, kernel, bias, padding=1))
            if name in STYLE_TAPS:
                styles.append(x)
            if name == "conv4_2":
                content = x
        return content, styles

    @staticmethod
    def gram(F):
        F = F.reshape(F.shape[1], -1)
        return F @ F.T / F.shape[1]

    def loss(self, x):
        content, styles = self.features(x)
        loss = nnf.mse_loss(content, self.content)
        for F, A in zip(styles, self.grams, strict=True):
            loss = loss + 1e3 / F.shape[1] ** 2 * nnf.mse_loss(self.gram(F), A)
        return loss

    def __call__(self, image):
        return self.at(self.upload(image))

    def at(self, x):
        """The loss and gradient of a picture that is on the device."""
        x = x.detach().requires_grad_()
        loss = self.evaluate(x)
        loss.backward()
        return loss.item(), x.grad
