"""The token sequence of CameNN, Eq. 3: what a request's candidates share, and what each has of its own.

Shape suffixes: B requests, U tokens of the user's side, S sequences (candidates), C tokens of a candidate, D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class InputTokens:
    """E_Input in two parts.

    Args:
        user_BUD: User and context fields, then the history; U = 0 where there is none.
        user_mask_BU: True where there is a token.
        own_SCD: The target's [CLS], text, [SEP] and image tokens, then its fields and crosses.
        own_mask_SC: True where there is a token.
        request_S: Request of each candidate.
        user_fields: How many of the user's tokens, at the front, are fields.
        text: Where the target's text lies among its own tokens.
        image: Where its image lies; what follows are fields.
    """

    user_BUD: Tensor
    user_mask_BU: Tensor
    own_SCD: Tensor
    own_mask_SC: Tensor
    request_S: Tensor
    user_fields: int
    text: slice
    image: slice

    def joined(self) -> InputTokens:
        """The same with the user's tokens repeated behind those of each candidate, for joint attention."""
        own = torch.cat([self.own_SCD, self.user_BUD.index_select(0, self.request_S)], dim=1)
        mask = torch.cat([self.own_mask_SC, self.user_mask_BU.index_select(0, self.request_S)], dim=1)
        return InputTokens(
            self.user_BUD[:, :0], self.user_mask_BU[:, :0], own, mask, self.request_S, 0, self.text, self.image
        )

    def in_order(self) -> tuple[Tensor, Tensor]:
        """All tokens of each candidate as printed, [Other; User; Target], for networks that read in order.

        Returns:
            Tokens [S, U + C, D] and their mask.
        """
        cut = self.image.stop
        user_SUD = self.user_BUD.index_select(0, self.request_S)
        user_mask_SU = self.user_mask_BU.index_select(0, self.request_S)
        f = self.user_fields
        own, mask = self.own_SCD, self.own_mask_SC
        return (
            torch.cat([user_SUD[:, :f], own[:, cut:], user_SUD[:, f:], own[:, :cut]], dim=1),
            torch.cat([user_mask_SU[:, :f], mask[:, cut:], user_mask_SU[:, f:], mask[:, :cut]], dim=1),
        )
