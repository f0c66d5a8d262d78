"""Residual vector quantisation: a vector is the sum of one code from each of several code books.

The books follow the vectors by a moving average instead of a gradient. ``quantize`` only gathers what a batch says;
``follow`` moves the books, once an update and over all processes, so that a batch may come in parts.
Axes: N vectors, G books, C codes of a book, D numbers of a code.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as distributed
from torch import Tensor, nn
from torch.nn import functional

NUMERICS = 1

DECAY, EPS = 0.8, 1e-5


@dataclass(frozen=True)
class Quantized:
    """What becomes of N vectors."""

    vectors: Tensor  # [N, D]: sums of codes; their gradient goes to the vectors that came in
    codes: Tensor  # [N, G]
    commitment: Tensor  # how far the vectors are from their codes: mean square, summed over the books


class CodeBook(nn.Module):
    """C codes, and the averages that they come from."""

    embed: Tensor
    embed_avg: Tensor
    cluster_size: Tensor

    def __init__(self, num_codes: int, dim: int) -> None:
        super().__init__()
        embed = torch.empty(1, num_codes, dim)
        nn.init.kaiming_uniform_(embed)
        self.register_buffer("embed", embed)
        self.register_buffer("embed_avg", embed.clone())
        self.register_buffer("cluster_size", torch.zeros(1, num_codes))

    def nearest(self, vectors_ND: Tensor) -> Tensor:
        """The code of each vector ``[N]``."""
        codes_CD = self.embed[0]
        squares_NC = vectors_ND.square().sum(-1, keepdim=True) + codes_CD.square().sum(-1)
        return (squares_NC - 2 * vectors_ND @ codes_CD.t()).argmin(-1)

    def follow(self, counts_C: Tensor, sums_CD: Tensor) -> None:
        """A step of the moving average towards the vectors of an update; one that holds no numbers changes nothing."""
        is_number = counts_C.isfinite().all() & sums_CD.isfinite().all()
        sizes = self.cluster_size.lerp(counts_C.unsqueeze(0), 1 - DECAY)
        averages = self.embed_avg.lerp(sums_CD.unsqueeze(0), 1 - DECAY)
        total = sizes.sum(-1, keepdim=True)
        smooth = (sizes + EPS) / (total + sizes.shape[-1] * EPS) * total
        for held, new in (
            (self.cluster_size, sizes),
            (self.embed_avg, averages),
            (self.embed, averages / smooth.unsqueeze(-1)),
        ):
            held.copy_(torch.where(is_number, new, held))


class ResidualVq(nn.Module):
    """Each book quantises what the ones before it left."""

    freeze_codebook: Tensor

    def __init__(self, num_books: int, num_codes: int, dim: int) -> None:
        super().__init__()
        self.books = nn.ModuleList(CodeBook(num_codes, dim) for _ in range(num_books))
        self.register_buffer("freeze_codebook", torch.tensor(False))
        self._seen: list[tuple[Tensor, Tensor]] = []  # counts and sums of each book since the last ``follow``

    def quantize(self, vectors_ND: Tensor, *, gather: bool = False) -> Quantized:
        """The nearest codes; with ``gather``, the books will follow these vectors. In 32 bits, whatever is around it."""
        with torch.autocast(vectors_ND.device.type, enabled=False):
            return self._quantize(vectors_ND.float(), gather=gather)

    def _quantize(self, vectors_ND: Tensor, *, gather: bool) -> Quantized:
        residual_ND, total_ND = vectors_ND, torch.zeros_like(vectors_ND)
        commitment = vectors_ND.new_zeros(())
        codes, seen = [], []
        for book in self.books:
            assert isinstance(book, CodeBook)
            code_N = book.nearest(residual_ND.detach())
            chosen_ND = book.embed[0][code_N]
            commitment = commitment + functional.mse_loss(chosen_ND, residual_ND)
            if gather:
                one_hot_NC = functional.one_hot(code_N, book.embed.shape[1]).to(residual_ND.dtype)
                seen.append((one_hot_NC.sum(0), one_hot_NC.t() @ residual_ND.detach()))
            straight_ND = residual_ND + (chosen_ND - residual_ND).detach()  # the gradient passes through the choice
            residual_ND, total_ND = residual_ND - straight_ND.detach(), total_ND + straight_ND
            codes.append(code_N)
        if gather:
            pairs = zip(seen, self._seen, strict=True)  # parts of one update add up
            self._seen = [(a + c, b + d) for (a, b), (c, d) in pairs] if self._seen else seen
        return Quantized(total_ND, torch.stack(codes, -1), commitment)

    def vectors(self, codes_NG: Tensor) -> Tensor:
        """The sums of codes ``[N, D]``."""
        parts = []
        for book, code_N in zip(self.books, codes_NG.unbind(-1), strict=True):
            assert isinstance(book, CodeBook)
            parts.append(book.embed[0][code_N])
        return torch.stack(parts).sum(0)

    def follow(self) -> None:
        """Move the books to what ``quantize`` has gathered since the last time, in all processes."""
        for book, (counts_C, sums_CD) in zip(self.books, self._seen, strict=False):
            assert isinstance(book, CodeBook)
            if distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1:
                distributed.all_reduce(counts_C)
                distributed.all_reduce(sums_CD)
            book.follow(counts_C, sums_CD)
        self._seen = []
