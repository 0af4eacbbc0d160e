"""Pool a bag of cells by gated attention, and classify the bag.

Ilse, Tomczak & Welling 2018, "Attention-based deep multiple instance learning", arXiv:1802.04712,
eq. 9: the weight of a cell is a softmax over the bag of w tanh(V x) sigmoid(U x).
"""

import torch
from torch import Tensor, nn

__all__ = ["GatedAttention"]


class GatedAttention(nn.Module):
    """Classifier of bags of features.

    Args:
        num_features: Width d of a cell's features.
        num_classes: Number K of classes of a bag.
        num_hidden: Width of the attention's hidden layer.
        dropout: Dropout rate of the features.
    """

    def __init__(
        self, num_features: int, num_classes: int, num_hidden: int = 64, dropout: float = 0.25
    ) -> None:
        super().__init__()
        self.content = nn.Linear(num_features, num_hidden)
        self.gate = nn.Linear(num_features, num_hidden)
        self.weight = nn.Linear(num_hidden, 1, bias=False)
        self.head = nn.Linear(num_features, num_classes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, bag: Tensor) -> tuple[Tensor, Tensor]:
        """Classify one bag of features (n, d).

        Returns:
            Logits (K,) and the weights of the cells (n,), which sum to 1.
        """
        cells = self.dropout(bag)
        scores = self.weight(torch.tanh(self.content(cells)) * torch.sigmoid(self.gate(cells)))
        weights = scores[:, 0].softmax(0)
        logits: Tensor = self.head(weights @ cells)
        return logits, weights
