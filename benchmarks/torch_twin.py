"""The same SpecGAN in PyTorch, as one would write it there: to compare speed with.

Of the default networks (kernel_len 5, transposed convolutions, no batch norm) and
wgan-gp. Memory is channels-last, the faster layout on CPUs. `copy_weights` makes it
equal to a `SpecGAN`: the tests hold its losses and gradients against that.
"""

import itertools

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

KERNEL = 5


class Generator(nn.Module):
    """z [b, latent_dim] -> spectrogram [b, 1, 128, 128]."""

    def __init__(self, dim=64, latent_dim=100):
        super().__init__()
        self.dim = dim
        self.z_project = nn.Linear(latent_dim, 4 * 4 * dim * 16)
        channels = [dim * 16, dim * 8, dim * 4, dim * 2, dim, 1]
        self.upconvs = nn.ModuleList(
            nn.ConvTranspose2d(c, d, KERNEL, 2, padding=1)
            for c, d in itertools.pairwise(channels)
        )

    def forward(self, z):
        x = self.z_project(z).view(-1, 4, 4, self.dim * 16).permute(0, 3, 1, 2)
        for upconv in self.upconvs:
            # TensorFlow's "same" cuts one pixel before and two behind.
            x = upconv(F.relu(x))[:, :, :-1, :-1]
        return torch.tanh(x)


class Discriminator(nn.Module):
    """Spectrogram [b, 1, 128, 128] -> logits [b]."""

    def __init__(self, dim=64):
        super().__init__()
        channels = [1, dim, dim * 2, dim * 4, dim * 8, dim * 16]
        self.downconvs = nn.ModuleList(
            nn.Conv2d(c, d, KERNEL, 2) for c, d in itertools.pairwise(channels)
        )
        self.output = nn.Linear(4 * 4 * dim * 16, 1)

    def forward(self, x):
        for downconv in self.downconvs:
            x = F.leaky_relu(downconv(F.pad(x, (1, 2, 1, 2))), 0.2)
        return self.output(x.permute(0, 2, 3, 1).flatten(1))[:, 0]


class Twin:
    """A generator, a discriminator, and wgan-gp's updates of them.

    Args:
      mixed_precision: compute the losses under `torch.autocast` to bfloat16.
    """

    def __init__(self, dim=64, latent_dim=100, mixed_precision=False):
        self.latent_dim, self.mixed_precision = latent_dim, mixed_precision
        self.G, self.D = Generator(dim, latent_dim), Discriminator(dim)
        self.G.to(memory_format=torch.channels_last)
        self.D.to(memory_format=torch.channels_last)
        settings = {"lr": 1e-4, "betas": (0.5, 0.9), "fused": True}
        self.G_optimizer = torch.optim.Adam(self.G.parameters(), **settings)
        self.D_optimizer = torch.optim.Adam(self.D.parameters(), **settings)

    def precision(self):
        return torch.autocast("cpu", torch.bfloat16, enabled=self.mixed_precision)

    def D_loss(self, x, z, alpha):
        with torch.no_grad():
            G_z = self.G(z)
        loss = self.D(G_z).mean() - self.D(x).mean()
        interpolates = (x + alpha * (G_z - x)).requires_grad_()
        (gradients,) = torch.autograd.grad(
            self.D(interpolates).sum(), interpolates, create_graph=True
        )
        slopes = gradients.square().sum(dim=(1, 2, 3)).sqrt()
        return loss + 10.0 * (slopes - 1.0).square().mean()

    def G_loss(self, z):
        return -self.D(self.G(z)).mean()

    def draw_z(self, n):
        return torch.rand(n, self.latent_dim) * 2.0 - 1.0

    def update_D(self, x):
        """One update of D on x [b, 1, 128, 128]."""
        self.D_optimizer.zero_grad()
        n = len(x)
        with self.precision():
            loss = self.D_loss(x, self.draw_z(n), torch.rand(n, 1, 1, 1))
        loss.backward()
        self.D_optimizer.step()

    def update_G(self, n):
        """One update of G, from n latents."""
        self.G_optimizer.zero_grad()
        self.D.requires_grad_(False)  # no gradients that nobody wants
        with self.precision():
            loss = self.G_loss(self.draw_z(n))
        loss.backward()
        self.D.requires_grad_(True)
        self.G_optimizer.step()


def named(twin):
    """TF 1 name of each variable -> the twin's parameter."""

    def of(scope, layer):
        return {f"{scope}/kernel": layer.weight, f"{scope}/bias": layer.bias}

    parameters = of("G/z_project/dense", twin.G.z_project)
    for i, layer in enumerate(twin.G.upconvs):
        parameters |= of(f"G/upconv_{i}/conv2d_transpose", layer)
    for i, layer in enumerate(twin.D.downconvs):
        parameters |= of(f"D/downconv_{i}/conv2d", layer)
    return parameters | of("D/output/dense", twin.D.output)


def to_torch(value):
    """A TensorFlow kernel or bias as PyTorch lays it out; its own inverse for dense."""
    value = np.asarray(value)
    return value.transpose({4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[value.ndim])


def copy_weights(gan, twin):
    """From a `SpecGAN` of the default networks into a `Twin` of the same dim."""
    parameters = named(twin)
    variables = {v.path: v for v in gan.G.variables + gan.D.variables}
    if parameters.keys() != variables.keys():
        raise ValueError("gan must be of default networks, without batch norm")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(torch.from_numpy(to_torch(variables[name].numpy())))
