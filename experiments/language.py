"""A text by characters, and a transformer that learns which one comes next."""

from __future__ import annotations

import os

import torch
from lightning import LightningDataModule, LightningModule
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from fnet_callbacks.errors import FnetError

VALIDATION_SHARE = 0.1  # of the text, its end
MAX_BYTES = 2**28


class TextModule(LightningDataModule):
    """Stretches of a text, one behind the other: inputs and, one further, targets, both int64 ``[S, T]``.

    The last tenth of the text is kept for validation. A token is a character, by its place among those that the text
    has.

    Args:
        text_file: The text, UTF-8.
        context: Characters of a stretch, T.
        batch_size: Stretches of a training batch.
        seed: Of the order in which they come; None for that of the run (``seed_everything``, else 0).

    Raises:
        FnetError: An argument is out of range, or the text cannot be read or is too short.
    """

    def __init__(
        self, text_file: str, context: int = 64, batch_size: int = 32, seed: int | None = None
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore="text_file")
        if context < 2 or batch_size < 1:
            raise FnetError(
                f"context should be at least 2 and batch_size at least 1, got {context} and {batch_size}"
            )
        self.context, self.batch_size = context, batch_size
        self.seed = int(os.environ.get("PL_GLOBAL_SEED", 0)) if seed is None else seed
        text = _read(text_file)
        self.characters = "".join(sorted(set(text)))
        place = {character: i for i, character in enumerate(self.characters)}
        tokens = torch.tensor([place[character] for character in text])
        end = round((1 - VALIDATION_SHARE) * len(tokens))
        self.train, self.validation = (self._stretches(part) for part in (tokens[:end], tokens[end:]))
        if not len(self.validation):
            least = round((context + 1) / VALIDATION_SHARE)
            raise FnetError(
                f"text_file {text_file!r} has {len(text)} characters; at least {least} are needed"
            )

    @property
    def vocabulary(self) -> int:
        """Number of different characters."""
        return len(self.characters)

    def train_dataloader(self) -> DataLoader:
        """Shuffled by a generator of its own, so that no global stream decides the order."""
        generator = torch.Generator().manual_seed(self.seed)
        return DataLoader(self.train, batch_size=self.batch_size, shuffle=True, generator=generator)

    def val_dataloader(self) -> DataLoader:
        """In the order of the text."""
        return DataLoader(self.validation, batch_size=self.batch_size)

    def _stretches(self, tokens: Tensor) -> TensorDataset:
        n = max(0, (len(tokens) - 1) // self.context)
        inputs, targets = (
            tokens[start : start + n * self.context].reshape(n, self.context) for start in (0, 1)
        )
        return TensorDataset(inputs, targets)


def _read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise FnetError(f"text_file {path!r} cannot be read: {error}") from error
    if len(content) > MAX_BYTES:
        raise FnetError(f"text_file {path!r} has more than {MAX_BYTES} bytes; take a part of it")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise FnetError(f"text_file {path!r} cannot be read as UTF-8: {error}") from error


class TransformerBlock(nn.Module):
    """Causal attention, then a dense part four times as wide, each normalised before and added to its input."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm, self.dense_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.queries_keys_values, self.mix = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.dense = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, tokens: Tensor) -> Tensor:
        """Shape ``[S, T, width]``, as the input."""
        split = self.queries_keys_values(self.attention_norm(tokens)).chunk(3, dim=-1)
        by_head = (each.unflatten(-1, (self.heads, -1)).transpose(1, 2) for each in split)
        attended = functional.scaled_dot_product_attention(*by_head, is_causal=True)
        tokens = tokens + self.mix(attended.transpose(1, 2).flatten(2))
        return tokens + self.dense(self.dense_norm(tokens))


class Transformer(nn.Module):
    """A decoder.

    Args:
        vocabulary: Tokens.
        context: The most that it reads at once.
        layers: Blocks.
        width: Of what runs between them.
        heads: Of attention; a divisor of ``width``.
    """

    def __init__(self, vocabulary: int, context: int, layers: int, width: int, heads: int) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(TransformerBlock(width, heads) for _ in range(layers)))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, vocabulary))

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits ``[S, T, vocabulary]`` of the tokens that follow."""
        places = torch.arange(tokens.shape[1], device=tokens.device)
        return self.head(self.blocks(self.tokens(tokens) + self.places(places)))


class LanguageModel(LightningModule):
    """A transformer with cross-entropy and AdamW.

    Args:
        vocabulary: Tokens; known from the data.
        context: The most that it reads at once; known from the data.
        layers: Blocks.
        width: Of what runs between them.
        heads: Of attention.
        lr: Learning rate.
        weight_decay: Of AdamW.

    Raises:
        FnetError: ``width`` is no multiple of ``heads``.
    """

    def __init__(
        self,
        vocabulary: int = 65,
        context: int = 64,
        layers: int = 2,
        width: int = 128,
        heads: int = 4,
        lr: float = 1e-3,
        weight_decay: float = 0.1,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        if min(layers, width, heads) < 1 or width % heads:
            raise FnetError(
                f"layers should be at least 1 and width a multiple of heads, got {layers}, {width} and {heads}"
            )
        self.lr, self.weight_decay = lr, weight_decay
        self.net = Transformer(vocabulary, context, layers, width, heads)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits ``[S, T, vocabulary]``."""
        return self.net(tokens)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Cross-entropy of the next characters."""
        return self._log("train", batch)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """As in training."""
        self._log("val", batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW."""
        return torch.optim.AdamW(self.parameters(), lr=self.lr, weight_decay=self.weight_decay)

    def _log(self, stage: str, batch: tuple[Tensor, Tensor]) -> Tensor:
        logits, targets = self(batch[0]).flatten(0, 1), batch[1].flatten()
        loss = functional.cross_entropy(logits, targets)
        self.log(f"{stage}_loss", loss, prog_bar=True)
        self.log(f"{stage}_accuracy", (logits.argmax(1) == targets).float().mean())
        return loss
