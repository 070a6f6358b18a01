"""Pictures of galaxies as sources: a bank of them on one device, and sources taken from it.

A picture may have layers, such as old and young stars, each with its own share of the light in
each band: one layer is a galaxy of one colour, two or more make a colour gradient. Light between
pixel centres is bilinear, and 0 beyond the picture, so that the integral over the plane is exactly
the sum of the pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from darkhaloscope.lensing.profiles import Part, require

_SUM_TOLERANCE = 1e-4  # float32 sums of some 10,000 pixels
_BISECTIONS = 40


@dataclass(frozen=True, slots=True)
class Bank:
    """Galaxies as pictures, all on one device.

    Attributes:
        pictures: Pixels, (count, layer, size, size), float32, >= 0; those of each layer add up to
            1. The galaxy's centroid is at the middle, (size - 1) / 2.
        half_light_px: Radius of the circle round the middle that holds half of the light of all
            layers, pixels of the picture, (count,).
        share: Share of a band's flux that each layer holds, (count, layer, band), within 0 and 1;
            adds up to 1 over the layers.
    """

    pictures: Tensor
    half_light_px: Tensor
    share: Tensor

    def __post_init__(self) -> None:
        """Refuse pictures that are not normalised, and shapes that do not fit each other."""
        pictures, share = self.pictures, self.share
        if pictures.ndim != 4 or pictures.shape[2] != pictures.shape[3]:
            raise ValueError(
                f"pictures have the shape (count, layer, size, size); got {tuple(pictures.shape)}"
            )
        count, layers = pictures.shape[:2]
        if layers == 0 or share.ndim != 3 or share.shape[:2] != (count, layers):
            raise ValueError(
                f"share has the shape (count, layer, band) with {count} pictures of {layers} "
                f"layers; got {tuple(share.shape)}"
            )
        if self.half_light_px.shape != (count,):
            raise ValueError(
                f"half_light_px has the shape ({count},); got {tuple(self.half_light_px.shape)}"
            )
        total = pictures.sum((2, 3))
        require((total - 1).abs() < _SUM_TOLERANCE, total, "each layer's pixels add up to 1")
        least = pictures.amin((2, 3)) if pictures.numel() else total
        require(least >= 0, least, "a picture's pixels are not negative")
        half_light = self.half_light_px
        in_picture = (half_light > 0) & (half_light < self.size)
        require(in_picture, half_light, "half_light_px is a radius in pixels within the picture")
        require((share >= 0) & (share <= 1), share, "a layer's share of a band is within 0 and 1")
        whole = share.sum(1)
        require((whole - 1).abs() < _SUM_TOLERANCE, whole, "shares add up to 1 over the layers")

    @classmethod
    def measured(cls, pictures: Tensor, share: Tensor) -> "Bank":
        """A bank whose half-light radii are measured on its pictures."""
        return cls(pictures, half_light_radius(pictures, share), share)

    @classmethod
    def joined(cls, banks: Sequence["Bank"]) -> "Bank":
        """Several banks as one, in order; pictures with fewer layers get empty ones.

        Raises:
            ValueError: there is none, or their pictures differ in size, or they in bands.
        """
        kinds = sorted({(bank.size, bank.share.shape[2]) for bank in banks})
        if len(kinds) != 1:
            raise ValueError(f"banks must agree in size and number of bands; got {kinds}")
        layers = max(bank.pictures.shape[1] for bank in banks)
        same = [bank._with_layers(layers) for bank in banks]
        return cls(
            torch.cat([bank.pictures for bank in same]),
            torch.cat([bank.half_light_px for bank in same]),
            torch.cat([bank.share for bank in same]),
        )

    @property
    def count(self) -> int:
        """Galaxies held."""
        return int(self.pictures.shape[0])

    @property
    def size(self) -> int:
        """Width of a picture, pixels."""
        return int(self.pictures.shape[-1])

    def to(self, device: torch.device | str) -> "Bank":
        """The same bank on another device."""
        return Bank(self.pictures.to(device), self.half_light_px.to(device), self.share.to(device))

    def take(self, rows: Tensor) -> "Bank":
        """Some of the galaxies, in the order asked."""
        return Bank(self.pictures[rows], self.half_light_px[rows], self.share[rows])

    def _with_layers(self, layers: int) -> "Bank":
        """Layers added that hold no share of any band; their pixels repeat the first layer's."""
        lacking = layers - self.pictures.shape[1]
        if not lacking:
            return self
        pictures = self.pictures[:, :1].expand(-1, lacking, -1, -1)
        nothing = torch.zeros_like(self.share[:, :1]).expand(-1, lacking, -1)
        return Bank(
            torch.cat([self.pictures, pictures], 1),
            self.half_light_px,
            torch.cat([self.share, nothing], 1),
        )


@dataclass(frozen=True, slots=True)
class Pictures:
    """Sources taken from a bank, the counterpart of `light.Sersic`; each (n,).

    Attributes:
        bank: Where the pictures are.
        index: Row of the bank, int64.
        x: Unlensed position of the centroid from the host's centre, arcsec, +x.
        y: Unlensed position of the centroid from the host's centre, arcsec, +y.
        r_eff: Radius of the circle that holds half of the light, arcsec, > 0; the picture is
            scaled so that its `half_light_px` is this.
        phi: Angle by which the picture is turned, radians from +x towards +y.
        is_mirrored: Whether the picture's columns run the other way before it is turned.
    """

    bank: Bank
    index: Tensor
    x: Tensor
    y: Tensor
    r_eff: Tensor
    phi: Tensor
    is_mirrored: Tensor

    def __post_init__(self) -> None:
        """Refuse rows that the bank lacks, and parameters outside their ranges."""
        if self.index.dtype != torch.int64 or self.is_mirrored.dtype != torch.bool:
            raise ValueError(
                "index is int64 and is_mirrored bool; got "
                f"{self.index.dtype} and {self.is_mirrored.dtype}"
            )
        in_bank = (self.index >= 0) & (self.index < self.bank.count)
        require(in_bank, self.index, f"index is a row of a bank of {self.bank.count}")
        r_eff = self.r_eff
        require((r_eff > 0) & r_eff.isfinite(), r_eff, "r_eff is a radius in arcsec, > 0")
        placed = self.x.isfinite() & self.y.isfinite() & self.phi.isfinite()
        require(placed, self.x, "a source's position and angle are finite")

    def rows(self, part: Part) -> "Pictures":
        """Some of the sources."""
        return Pictures(
            self.bank,
            self.index[part],
            self.x[part],
            self.y[part],
            self.r_eff[part],
            self.phi[part],
            self.is_mirrored[part],
        )

    def shares(self) -> Tensor:
        """Share of a band's flux that each layer holds, (n, layer, band)."""
        return self.bank.share[self.index]

    def brightness(self, xi: Tensor, eta: Tensor) -> Tensor:
        """Surface brightness of each layer, of a layer of total flux 1.

        Args:
            xi: Position from the source's centre along the picture's rows, turned back by `phi`,
                in units of r_eff, shape (n, m).
            eta: The same along its columns.

        Returns:
            Flux per r_eff^2, shape (n, layer, m), in the precision of `xi`: bilinear between pixel
            centres, falling to 0 within a pixel of the picture's edge.
        """
        size, layers = self.bank.size, self.bank.pictures.shape[1]
        scale = self.bank.half_light_px[self.index].to(xi.dtype)[:, None]
        middle = (size - 1) / 2
        # one empty pixel all round is what lies outside: -1 and `size` are as far as one can be
        column = (torch.where(self.is_mirrored[:, None], -xi, xi) * scale + middle).clamp(-1, size)
        row = (eta * scale + middle).clamp(-1, size)
        left, below = column.floor(), row.floor()
        picture = self.index[:, None] * layers + torch.arange(layers, device=xi.device)
        total = xi.new_zeros(())
        for up in (0, 1):
            for right in (0, 1):
                i, j = below + up, left + right
                inside = (i >= 0) & (i < size) & (j >= 0) & (j < size)
                weight = (1 - (row - i).abs()) * (1 - (column - j).abs()) * inside
                place = (i.clamp(0, size - 1) * size + j.clamp(0, size - 1)).long()
                at = (picture * size**2)[:, :, None] + place[:, None]
                total = total + weight[:, None] * torch.take(self.bank.pictures, at)
        return total * scale[:, None].square()


def half_light_radius(pictures: Tensor, share: Tensor) -> Tensor:
    """Radius of the circle round the middle that holds half of the light of all layers.

    Layers count by their share of the bands, taken alike. A pixel on the circle counts by how much
    of it lies inside, as if cut straight: right to 0.04 px.

    Args:
        pictures: Pixels, (count, layer, size, size); those of each layer add up to 1.
        share: Share of a band's flux that each layer holds, (count, layer, band).

    Returns:
        Radii in pixels, (count,), of the precision of `pictures`.

    Examples:
        >>> flat = torch.full((1, 1, 64, 64), 1 / 64**2)  # half of a square's area
        >>> half_light_radius(flat, torch.ones(1, 1, 1)).round().tolist()
        [26.0]
    """
    size = pictures.shape[-1]
    weight = share.mean(2).to(pictures.dtype)
    white = (pictures * weight[:, :, None, None]).sum(1).flatten(1)
    axis = torch.arange(size, device=pictures.device, dtype=torch.float64) - (size - 1) / 2
    distance = torch.hypot(axis[:, None], axis[None]).reshape(-1)
    order = distance.argsort()
    distance, white = distance[order], white[:, order].double()
    low = torch.zeros(len(pictures), dtype=torch.float64, device=pictures.device)
    high = torch.full_like(low, size)
    half = white.sum(1) / 2
    for _ in range(_BISECTIONS):
        radius = (low + high) / 2
        inside = (white * (radius[:, None] - distance + 0.5).clamp(0, 1)).sum(1)
        low, high = (
            torch.where(inside < half, radius, low),
            torch.where(inside < half, high, radius),
        )
    return ((low + high) / 2).to(pictures.dtype)
