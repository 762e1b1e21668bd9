"""Sequences of unlike length that are packed into one, as recurrent layers take and give them."""

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence


def padded(packed: PackedSequence) -> tuple[Tensor, Tensor]:
    """The values ``[S, T, ...]`` in the order of the samples, and the mask ``[S, T]``, True where there is a token."""
    values, lengths = pad_packed_sequence(packed, batch_first=True)
    mask = torch.arange(values.shape[1])[None] < lengths[:, None]
    return values, mask.to(values.device)


def repacked(values: Tensor, *, like: PackedSequence) -> PackedSequence:
    """Values ``[S, T, ...]`` in the order of the samples, packed as ``like`` is; padding is left out."""
    mask = padded(like)[1]
    order = like.sorted_indices
    if order is not None:
        values, mask = values[order], mask[order]
    data = values.transpose(0, 1)[mask.T]  # token by token, the longest sequence first
    return PackedSequence(data, like.batch_sizes, order, like.unsorted_indices)


def last_tokens(values: Tensor, mask: Tensor) -> Tensor:
    """The last token of each sequence in ``[S, T, ...]``."""
    return values[torch.arange(len(values), device=values.device), mask.sum(1) - 1]
