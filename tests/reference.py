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

from conftest import fitting, projections

# The tests run in several processes, whose threads would wait for each other.
torch.set_num_threads(1)

GOLDEN = Path(__file__).parent / "golden.json"
PICTURES = Path(__file__).parent / "golden.npz"
MEAN = torch.tensor([103.939, 116.779, 123.68], dtype=torch.float64)
PARAMETERS = {}


class Vgg:
    """relu(conv(x)) by the framework; returns the output of every layer by name."""

    def __init__(self, weights, pooling, dtype):
        self.weights, self.pooling, self.dtype = weights, pooling, dtype

    def parameters(self, layer):
        """(kernel, bias) in the framework's order; kept, as many pictures are looked at."""
        key = self.weights.path, layer, self.dtype
        if key not in PARAMETERS:
            kernel, bias = map(torch.from_numpy, self.weights[layer])
            kernel = kernel.permute(3, 2, 0, 1).contiguous()
            PARAMETERS[key] = kernel.to(self.dtype), bias.to(self.dtype)
        return PARAMETERS[key]

    def __call__(self, rgb):
        x = (rgb.flip(-1) - MEAN.to(self.dtype)).permute(2, 0, 1)[None]
        features = {}
        for block, count in enumerate((2, 2, 4, 4, 4), start=1):
            for index in range(1, count + 1):
                parameters = self.parameters(f"block{block}_conv{index}")
                x = nnf.conv2d(x, *parameters, padding=1)
                features[f"conv{block}_{index}"] = x[0]
                x = nnf.relu(x)
                features[f"relu{block}_{index}"] = x[0]
            x = (nnf.max_pool2d if self.pooling == "max" else nnf.avg_pool2d)(x, 2)
            features[f"pool{block}"] = x[0]
        return features


def gatys(x, content, style, image, weights=(1e3, 1e3, 1e3, 1e3, 1e3)):
    """leongatys/PytorchNeuralStyleTransfer, cells 2, 7 and 8."""

    def gram(F):
        C, H, W = F.shape
        return F.view(C, H * W) @ F.view(C, H * W).T / (H * W)

    loss = nnf.mse_loss(x["relu4_2"], content["relu4_2"])
    for layer, n, weight in zip((1, 2, 3, 4, 5), (64, 128, 256, 512, 512), weights, strict=True):
        tap = f"relu{layer}_1"
        loss = loss + weight / n**2 * nnf.mse_loss(gram(x[tap]), gram(style[tap]))
    return loss


def balanced(x, content, style, image):
    """The same with a weight of 200 and, for each layer, what benchmarks/balance.py found."""
    return gatys(x, content, style, image, (2.46e6, 20800, 22600, 200, 3e5))


def course(x, content, style, image):
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


def cysmith(x, content, style, image):
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


def gatys2016(x, content, style, image):
    """The paper, equations 1 to 7, alpha = 1e-3, beta = 1."""
    F, P = x["relu4_2"], content["relu4_2"]
    L_content = 0.5 * ((F - P) ** 2).sum()
    L_style = 0
    for layer in range(1, 6):
        F, S = x[f"relu{layer}_1"], style[f"relu{layer}_1"]
        N, M = F.shape[0], F.shape[1] * F.shape[2]
        G, A = F.reshape(N, M) @ F.reshape(N, M).T, S.reshape(N, M) @ S.reshape(N, M).T
        L_style = L_style + 1 / 5 * ((G - A) ** 2).sum() / (4 * N**2 * M**2)
    return 1e-3 * L_content + L_style


def gram_of_johnson(F):
    """neural_style.lua: gram:div(input:nElement()); neural-style-pt: self.G.div(input.nelement())."""
    flat = F.reshape(F.shape[0], -1)
    return (flat @ flat.T) / F.numel()


def johnson(x, content, style, image):
    """neural_style.lua as it prints its loss, in which there is no total variation."""
    loss = 5e0 * nnf.mse_loss(x["relu4_2"], content["relu4_2"])
    for layer in range(1, 6):
        tap = f"relu{layer}_1"
        G, target = gram_of_johnson(x[tap]), gram_of_johnson(style[tap])
        loss = loss + 1e2 * nnf.mse_loss(G, target)
    return loss


def neural_style_pt(x, content, style, image):
    """neural-style-pt: ContentLoss, StyleLoss, TVLoss."""
    x_diff = image[1:, :, :] - image[:-1, :, :]
    y_diff = image[:, 1:, :] - image[:, :-1, :]
    tv = 1e-3 * (x_diff.abs().sum() + y_diff.abs().sum())
    return johnson(x, content, style, image) + tv


def anishathalye(x, content, style, image):
    """stylize.py: content_loss, style_loss with normalised layer weights, tv_loss."""

    def l2_loss(t):
        return t.pow(2).sum() / 2

    F, P = x["relu4_2"], content["relu4_2"]
    content_loss = 5e0 * (2 * l2_loss(F - P) / P.numel())
    style_loss = 0
    for layer in range(1, 6):
        gram, style_gram = (gram_of_johnson(f[f"relu{layer}_1"]) for f in (x, style))
        weight = 1 / 5
        style_loss = style_loss + weight * 2 * l2_loss(gram - style_gram) / style_gram.numel()
    down, right = image[1:] - image[:-1], image[:, 1:] - image[:, :-1]
    tv_loss = 1e2 * 2 * (l2_loss(down) / down.numel() + l2_loss(right) / right.numel())
    return content_loss + 5e2 * style_loss + tv_loss


def gordic(x, content, style, image):
    """neural_style_transfer.py: build_loss."""
    content_loss = torch.nn.MSELoss(reduction="mean")(content["relu4_2"], x["relu4_2"])
    style_loss = 0.0
    for layer in range(1, 6):
        gram_gt, gram_hat = (gram_of_johnson(f[f"relu{layer}_1"]) for f in (style, x))
        style_loss = style_loss + torch.nn.MSELoss(reduction="sum")(gram_gt, gram_hat)
    style_loss = style_loss / 5
    tv = (image[:, :-1] - image[:, 1:]).abs().sum() + (image[:-1] - image[1:]).abs().sum()
    return 1e5 * content_loss + 3e4 * style_loss + 1e0 * tv


def pastiche(x, content, style, image):
    """pastiche.py: content_weight 0.01, style layers' weights 10 / C^2, Gram / (h w)."""
    loss = 0.01 * nnf.mse_loss(x["relu4_2"], content["relu4_2"])
    for layer, channels in enumerate((64, 128, 256, 512, 512), start=1):
        grams = []
        for features in (x, style):
            c, h, w = features[f"relu{layer}_1"].shape
            flat = features[f"relu{layer}_1"].reshape(c, h * w)
            grams.append(flat @ flat.T / (h * w))
        loss = loss + 10 / channels**2 * nnf.mse_loss(*grams)
    return loss


def course_tf2(x, content, style, image):
    """The assignment in TensorFlow 2: content at block5_conv4, the rest as in TF1."""
    a_C, a_G = content["relu5_4"], x["relu5_4"]
    n_C, n_H, n_W = a_G.shape
    J_content = 1 / (4 * n_H * n_W * n_C) * (a_C - a_G).square().sum()
    J_style = 0
    for layer in range(1, 6):
        a_S, a_G = style[f"relu{layer}_1"], x[f"relu{layer}_1"]
        n_C, n_H, n_W = a_G.shape
        GS, GG = (a.reshape(n_C, -1) @ a.reshape(n_C, -1).T for a in (a_S, a_G))
        J_style = J_style + 0.2 * (GS - GG).square().sum() / (4 * n_C**2 * (n_H * n_W) ** 2)
    return 10 * J_content + 40 * J_style


def tensorflow(x, content, style, image):
    """style_content_loss, and total_variation_weight * tf.image.total_variation(image in 0..1)."""

    def gram_matrix(F):
        return torch.einsum("chw,dhw->cd", F, F) / (F.shape[1] * F.shape[2])

    style_loss = 0
    for layer in range(1, 6):
        tap = f"relu{layer}_1"
        style_loss = style_loss + (gram_matrix(x[tap]) - gram_matrix(style[tap])).pow(2).mean()
    style_loss = style_loss * 1e-2 / 5
    content_loss = (x["relu5_2"] - content["relu5_2"]).pow(2).mean() * 1e4 / 1
    image = image / 255
    variation = (image[1:] - image[:-1]).abs().sum() + (image[:, 1:] - image[:, :-1]).abs().sum()
    return style_loss + content_loss + 30 * variation


def log0(x, content, style, image):
    """art.py: content_loss_func, style_loss_func, BETA 5 and ALPHA 100."""
    p, f = content["relu4_2"], x["relu4_2"]
    content_loss = (1 / (4 * p.shape[0] * p.shape[1] * p.shape[2])) * (f - p).pow(2).sum()
    style_loss = 0
    for layer, weight in enumerate((0.5, 1.0, 1.5, 3.0, 4.0), start=1):
        a, g = style[f"relu{layer}_1"], x[f"relu{layer}_1"]
        N, M = a.shape[0], a.shape[1] * a.shape[2]
        A, G = a.reshape(N, M) @ a.reshape(N, M).T, g.reshape(N, M) @ g.reshape(N, M).T
        style_loss = style_loss + weight * (1 / (4 * N**2 * M**2)) * (G - A).pow(2).sum()
    return 5 * content_loss + 100 * style_loss


def pytorch_tutorial(x, content, style, image):
    """neural_style_tutorial.py: gram_matrix, StyleLoss, ContentLoss at the convolutions."""
    loss = nnf.mse_loss(x["conv2_2"], content["conv2_2"])
    for tap in ("conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1"):
        G, target = gram_of_johnson(x[tap]), gram_of_johnson(style[tap])
        loss = loss + 1000000 * nnf.mse_loss(G, target)
    return loss


def d2l(x, content, style, image):
    """neural-style.md: content_loss, style_loss, tv_loss, weights 1, 1e4 and 10."""
    content_l = torch.square(x["conv4_4"] - content["conv4_4"]).mean()
    style_l = 0
    for block in range(1, 6):
        tap = f"conv{block}_1"
        difference = gram_of_johnson(x[tap]) - gram_of_johnson(style[tap])
        style_l = style_l + torch.square(difference).mean()
    Y = image / (255 * 0.226)
    down, right = (Y[1:] - Y[:-1]).abs().mean(), (Y[:, 1:] - Y[:, :-1]).abs().mean()
    return 1 * content_l + 1e4 * style_l + 10 * 0.5 * (down + right)


def keras_parts(x, content, style, image):
    """The examples' style_loss, content_loss and total_variation_loss; img_nrows, img_ncols."""
    img_nrows, img_ncols, _ = image.shape

    def gram_matrix(F):
        features = F.reshape(F.shape[0], -1)
        return features @ features.T

    def style_loss(style, combination):
        S, C = gram_matrix(style), gram_matrix(combination)
        channels = 3
        size = img_nrows * img_ncols
        return (S - C).square().sum() / (4.0 * channels**2 * size**2)

    style_losses = [style_loss(style[f"relu{b}_1"], x[f"relu{b}_1"]) for b in range(1, 6)]
    content_loss = (x["relu5_2"] - content["relu5_2"]).square().sum()
    a = (image[: img_nrows - 1, : img_ncols - 1] - image[1:, : img_ncols - 1]).square()
    b = (image[: img_nrows - 1, : img_ncols - 1] - image[: img_nrows - 1, 1:]).square()
    return style_losses, content_loss, (a + b).pow(1.25).sum()


def keras(*features_and_image):
    """keras-io's compute_loss: the three weights are 1e-6, 1e-6 and 2.5e-8."""
    style_losses, content_loss, variation = keras_parts(*features_and_image)
    loss = 2.5e-8 * content_loss
    for sl in style_losses:
        loss = loss + (1e-6 / len(style_losses)) * sl
    return loss + 1e-6 * variation


def tv(*features_and_image):
    """Keras' first example: content 0.025, style 1, total variation 1."""
    style_losses, content_loss, variation = keras_parts(*features_and_image)
    loss = 0.025 * content_loss
    for sl in style_losses:
        loss = loss + (1.0 / len(style_losses)) * sl
    return loss + 1.0 * variation


def crowsonkb(x, content, style, image):
    """style_transfer.py's StyleTransfer.stylize and TVLoss; squares for its Wasserstein distance."""

    def get_target(F):
        F = F.flatten(1)
        mean = F.mean(1)
        return mean, F @ F.T / F.shape[1] - torch.outer(mean, mean)

    loss = 0.015 * nnf.mse_loss(x["relu4_2"], content["relu4_2"])
    style_weights = [256, 64, 16, 4, 1]
    as_large = [3.25e-3, 1.76e-4, 2.06e-4, 1.19e-5, 1.36e-3]  # as a distance, per square
    for layer, weight in enumerate(style_weights):
        (mean, cov), (target_mean, target_cov) = (
            get_target(f[f"relu{layer + 1}_1"]) for f in (x, style)
        )
        squares = (cov - target_cov).square().mean()
        squares = squares + (mean.outer(mean) - target_mean.outer(target_mean)).square().mean()
        loss = loss + weight / sum(style_weights) * as_large[layer] * squares / 4
    image = image / 255  # as it has it; and the network's features are of numbers / 0.226
    down, right = image[1:] - image[:-1], image[:, 1:] - image[:, :-1]
    tv = 2 * (down.square().mean() + right.square().mean())
    return loss + (255 * 0.226) ** 2 * tv


PRESETS = {
    "balanced": (balanced, "max"),
    "gatys": (gatys, "max"),
    "gatys2016": (gatys2016, "avg"),
    "johnson": (johnson, "max"),
    "neural-style-pt": (neural_style_pt, "max"),
    "anishathalye": (anishathalye, "max"),
    "gordic": (gordic, "max"),
    "pastiche": (pastiche, "max"),
    "course": (course, "avg"),
    "course-tf2": (course_tf2, "max"),
    "tensorflow": (tensorflow, "max"),
    "log0": (log0, "avg"),
    "cysmith": (cysmith, "avg"),
    "pytorch-tutorial": (pytorch_tutorial, "max"),
    "d2l": (d2l, "max"),
    "keras": (keras, "max"),
    "tv": (tv, "max"),
    "crowsonkb": (crowsonkb, "max"),
}


def objective(preset, weights, content, style, image, dtype=torch.float64):
    """Loss of a preset and its gradient with respect to the (H, W, 3) RGB image."""
    function, pooling = PRESETS[preset]
    vgg = Vgg(weights, pooling, dtype)
    x = torch.tensor(image, dtype=dtype, requires_grad=True)
    with torch.no_grad():
        targets = [vgg(torch.tensor(picture, dtype=dtype)) for picture in (content, style)]
    loss = function(vgg(x), *targets, x)
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
        loss, dx = objective(preset, weights, *fitting(preset, content, style, image))
        golden["presets"][preset] = [loss, float(np.linalg.norm(dx)), *projections(dx)]
    GOLDEN.write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    record()
