"""The ablations: a Q-Former in place of the language model, learned part queries in place of the hierarchy."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from langhops_cli.model.structures import ANY_PART, KeptObjects, PartQueries


class QFormer(nn.Module):
    """Refines the part queries of each object by themselves: they see one another and their object, nothing else.

    Args:
        query_dim: width of all queries, d.
        num_layers: self-attention, cross-attention to the object query, feed-forward; each.
        num_heads: of the attentions.
        feedforward_dim: inner width of the feed-forward layers.
    Source: LangHOPS, section 4.3, after PartGLEE (arXiv 2407.16696), section 3.3.
    """

    def __init__(self, *, query_dim: int, num_layers: int = 6, num_heads: int = 8, feedforward_dim: int = 2048) -> None:
        super().__init__()
        self.num_heads = num_heads
        layer = nn.TransformerDecoderLayer(query_dim, num_heads, feedforward_dim, dropout=0.0, batch_first=True)
        self.decoder = nn.TransformerDecoder(layer, num_layers, norm=nn.LayerNorm(query_dim))
        for parameter in self.decoder.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)  # the layers are copies of one: give each its own start
        # What a layer adds is less at the start, the more there are (as in GPT-2). At full size six of them make the
        # parts of one object all but alike: 0.1 % of their variance is left between them where 22 % came in; so 13 %.
        for item in self.decoder.layers:
            assert isinstance(item, nn.TransformerDecoderLayer)
            for last in (item.self_attn.out_proj, item.multihead_attn.out_proj, item.linear2):
                last.weight.data.mul_((3 * num_layers) ** -0.5)

    def forward(self, queries: PartQueries, *, objects: Tensor) -> Tensor:
        """Refine the part queries of a batch.

        Args:
            queries: `embeds` (B, M, d).
            objects: states of the kept objects, (B, K, d).

        Returns:
            (B, M, d); zero where a query is not valid.
        """
        num_queries = queries.embeds.shape[1]
        if num_queries == 0 or objects.shape[1] == 0:
            return torch.zeros_like(queries.embeds)
        real = queries.valid.unsqueeze(-1) & queries.valid.unsqueeze(-2)
        sibling = (queries.parent.unsqueeze(-1) == queries.parent.unsqueeze(-2)) & real
        # padding reads itself, and any object, so that no row of a softmax is empty
        sibling = sibling | torch.eye(num_queries, dtype=torch.bool, device=sibling.device)
        ranks = torch.arange(objects.shape[1], device=objects.device)
        own = (queries.parent.unsqueeze(-1) == ranks) | ~queries.valid.unsqueeze(-1)
        refined: Tensor = self.decoder(
            queries.embeds,
            objects,
            tgt_mask=self._hidden(sibling),
            memory_mask=self._hidden(own),
        )
        return refined.masked_fill(~queries.valid.unsqueeze(-1), 0.0)

    def _hidden(self, visible: Tensor) -> Tensor:
        """PyTorch's attention wants True where a query may not look, once a head: (B * heads, M, N)."""
        return ~visible.repeat_interleave(self.num_heads, dim=0)


class LearnedPartQueries(nn.Module):
    """The same learned queries for every kept object, with no word of which parts to look for.

    The projected object query is added to them, since nothing else tells a language model which object they are for.

    Args:
        num_queries: for each object, N.
        query_dim: width of the object queries, d.
        hidden_dim: width of the refiner that reads the queries, D.
        scale: root mean square of a fresh query, as for `HierarchyQueries`.
    Source: LangHOPS, section 4.3.
    """

    def __init__(self, *, num_queries: int, query_dim: int, hidden_dim: int, scale: float = 1.0) -> None:
        super().__init__()
        self.queries = nn.Embedding(num_queries, hidden_dim)
        self.object_projection = nn.Linear(query_dim, hidden_dim)
        # object queries have left a LayerNorm: each of the two terms brings half of the variance
        nn.init.normal_(self.queries.weight, std=scale * 0.5**0.5)
        nn.init.normal_(self.object_projection.weight, std=scale * (0.5 / query_dim) ** 0.5)

    def forward(self, kept: KeptObjects) -> PartQueries:
        """Args:
            kept: the K objects of each picture.

        Returns:
            PartQueries of width D, K * N of them, packed to the front in the order of the objects. They have no
            candidate name: only open scoring fits them.
        """
        num_objects = kept.queries.shape[1]
        num_queries = self.queries.num_embeddings
        embeds = self.object_projection(kept.queries).unsqueeze(2) + self.queries.weight
        parent = torch.arange(num_objects, device=kept.valid.device).repeat_interleave(num_queries)
        valid = kept.valid.repeat_interleave(num_queries, dim=1)
        order = (~valid).byte().argsort(dim=1, stable=True)
        return PartQueries(
            embeds.flatten(1, 2).gather(1, order.unsqueeze(-1).expand(-1, -1, embeds.shape[-1])),
            parent[order],
            torch.full_like(order, ANY_PART),
            valid.gather(1, order),
        )
