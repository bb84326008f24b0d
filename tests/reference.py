"""An independent reference: VGG-19 and each preset's program, written down in PyTorch.

Every objective here is a transcription of that program's own formulas, in its own order and with
its own names, differentiated by autograd. Nothing is shared with `minimal_nst` but the weights.
Run it to record golden values:  python tests/reference.py
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as nnf

from conftest import projections

GOLDEN = Path(__file__).parent / "golden.json"
PICTURES = Path(__file__).parent / "golden.npz"
MEAN = torch.tensor([103.939, 116.779, 123.68], dtype=torch.float64)


class Vgg:
    """relu(conv(x)) by the framework; returns the output of every layer by name."""

    def __init__(self, weights, pooling, dtype):
        self.weights, self.pooling, self.dtype = weights, pooling, dtype

    def __call__(self, rgb):
        x = (rgb.flip(-1) - MEAN.to(self.dtype)).permute(2, 0, 1)[None]
        features = {}
        for block, count in enumerate((2, 2, 4, 4, 4), start=1):
            for index in range(1, count + 1):
                kernel, bias = self.weights[f"block{block}_conv{index}"]
                kernel = torch.from_numpy(kernel).to(self.dtype).permute(3, 2, 0, 1)
                x = nnf.conv2d(x, kernel, torch.from_numpy(bias).to(self.dtype), padding=1)
                features[f"conv{block}_{index}"] = x[0]
                x = nnf.relu(x)
                features[f"relu{block}_{index}"] = x[0]
            x = (nnf.max_pool2d if self.pooling == "max" else nnf.avg_pool2d)(x, 2)
            features[f"pool{block}"] = x[0]
        return features


def gatys(x, content, style):
    """leongatys/PytorchNeuralStyleTransfer, cells 2, 7 and 8."""

    def gram(F):
        C, H, W = F.shape
        return F.view(C, H * W) @ F.view(C, H * W).T / (H * W)

    loss = nnf.mse_loss(x["relu4_2"], content["relu4_2"])
    for layer, n in zip((1, 2, 3, 4, 5), (64, 128, 256, 512, 512), strict=True):
        tap = f"relu{layer}_1"
        loss = loss + 1e3 / n**2 * nnf.mse_loss(gram(x[tap]), gram(style[tap]))
    return loss


def course(x, content, style):
    """deeplearning.ai, TF1: compute_content_cost, compute_layer_style_cost, total_cost."""
    n_C, n_H, n_W = x["relu4_2"].shape
    J_content = (content["relu4_2"] - x["relu4_2"]).square().sum() / (4 * n_H * n_W * n_C)
    J_style = 0
    for layer in range(1, 6):
        a_S, a_G = style[f"relu{layer}_1"], x[f"relu{layer}_1"]
        n_C, n_H, n_W = a_G.shape
        GS, GG = (a.reshape(n_C, -1) @ a.reshape(n_C, -1).T for a in (a_S, a_G))
        J_style = J_style + 0.2 * (GS - GG).square().sum() / (4 * n_C**2 * (n_H * n_W) ** 2)
    return 10 * J_content + 40 * J_style


def cysmith(x, content, style):
    """neural-style-tf: content_layer_loss (function 3), style_layer_loss, sum_style_losses."""
    L_content = 0.5 * (x["conv5_2"] - content["conv5_2"]).pow(2).sum()
    L_style = 0
    for layer in range(1, 6):
        a, b = style[f"conv{layer}_1"], x[f"conv{layer}_1"]
        N, M = a.shape[0], a.shape[1] * a.shape[2]
        A, G = (F.reshape(N, M) @ F.reshape(N, M).T for F in (a, b))
        L_style = L_style + 0.2 * (1.0 / (4 * N**2 * M**2)) * (G - A).pow(2).sum()
    L_style = L_style / 5
    return 5 * L_content + 20 * L_style


PRESETS = {"gatys": (gatys, "max"), "course": (course, "avg"), "cysmith": (cysmith, "avg")}


def objective(preset, weights, content, style, image, dtype=torch.float64):
    """Loss of a preset and its gradient with respect to the (H, W, 3) RGB image."""
    function, pooling = PRESETS[preset]
    vgg = Vgg(weights, pooling, dtype)
    x = torch.tensor(image, dtype=dtype, requires_grad=True)
    with torch.no_grad():
        targets = [vgg(torch.tensor(picture, dtype=dtype)) for picture in (content, style)]
    loss = function(vgg(x), *targets)
    loss.backward()
    return loss.item(), x.grad.numpy()


def record() -> None:
    """Write the pictures and what the reference makes of them."""
    from minimal_nst import images, load_weights

    examples = Path(__file__).parents[1] / "examples"
    content = images.load(examples / "content" / "neuschwanstein.webp", 72)
    style = images.load(examples / "style" / "vangogh_starry_night_cropped.jpg", 91)
    style = np.ascontiguousarray(style[: content.shape[0], : content.shape[1]])
    np.savez_compressed(PICTURES, content=content, style=style)
    weights, image = load_weights(), (content.astype(float) + style[::-1]) / 2
    golden = {"features": {}, "presets": {}}
    for pooling in ("max", "avg"):
        vgg = Vgg(weights, pooling, torch.float64)
        features = vgg(torch.tensor(image))
        golden["features"][pooling] = {
            tap: [float(F.norm()), *projections(F.permute(1, 2, 0).contiguous().numpy())]
            for tap, F in features.items()
        }
    for preset in PRESETS:
        loss, dx = objective(preset, weights, content, style, image)
        golden["presets"][preset] = [loss, float(np.linalg.norm(dx)), *projections(dx)]
    GOLDEN.write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    record()
