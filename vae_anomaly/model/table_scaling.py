r"""Codes of a table to the units that the networks see, and back.

A number is scaled, its long tails drawn in (`vae_anomaly.model.scaling`). A date t has its linear part, scaled as a
number is, and for each cycle of length T the pair :math:`\sin(2 \pi t / T), \cos(2 \pi t / T)`, whose variance together
is at most one, that of a number. A category has one unit a level, and the level's is 1: levels that fewer than two
training rows have share the unit of all others, as do levels never seen. A gap of a number is NaN in its units, and of
a category zero in all of them, so that both drop out of the likelihood; where gaps count, they have a unit too.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vae_anomaly.columns import CYCLES, Columns
from vae_anomaly.model.constants import constant
from vae_anomaly.model.scaling import Scaling, TailScaling


class TableScaling(Scaling):
    """The map from codes ``(N, C)`` to units ``(N, W)``.

    Parameters
    ----------
    columns
        Of the table.
    numbers
        Scaling of the columns that are no categories, in the order of their names. With no such column, of a single
        feature that nothing uses.
    level_units : Tensor
        For each level of each category, by the names of the columns: the place of its unit in the category's group.
        Without categories, a single number that nothing uses.
    """

    def __init__(self, columns: Columns, numbers: TailScaling, level_units: Tensor) -> None:
        torch.nn.Module.__init__(self)
        self.columns, self.numbers = columns, numbers
        self.register_buffer("level_units", level_units)
        self.level_units: Tensor
        modelled = columns.modelled
        self.places = [place for place in columns.by_name if not modelled[place].is_category]
        self.linear_units = [columns.numeric.index(place) for place in self.places]
        self.n_numeric = len(columns.numeric)

    @property
    def loc(self) -> Tensor:  # type: ignore[override]
        """Of the numeric columns; its device and precision are the model's."""
        return self.numbers.loc

    @property
    def scale(self) -> Tensor:  # type: ignore[override]
        """Of the numeric columns."""
        return self.numbers.scale

    @classmethod
    def with_shapes(cls, columns: Columns, numbers: TailScaling, level_units: Tensor) -> TableScaling:
        """The scaling with these tensors, which are checked since they may come from any file.

        Raises
        ------
        ValueError
            If their shapes are not those that the columns need.
        """
        n_numbers = sum(not column.is_category for column in columns)
        n_levels = sum(len(column.levels) for column in columns)
        shapes = {tuple(value.shape) for value in numbers.state_dict().values()}
        if shapes != {(max(1, n_numbers),)} or level_units.shape != (max(1, n_levels),):
            raise ValueError("its scaling does not fit its columns")
        return cls(columns, numbers, level_units)

    def forward(self, raw: Tensor) -> Tensor:
        modelled = self.columns.modelled
        scaled = self.numbers(raw[:, constant(tuple(self.places), raw.device)]) if self.places else raw[:, :0]
        parts: list[Tensor] = []
        for i, place in enumerate(self.places):
            parts.append(scaled[:, i : i + 1])
            for cycle in modelled[place].cycles:
                angle = raw[:, place : place + 1] * (2 * math.pi / CYCLES[cycle])
                parts += [torch.sin(angle), torch.cos(angle)]
        first = 0
        for place, size in self.columns.groups:
            column = modelled[place]
            units = self.level_units[first : first + len(column.levels)].long()
            first += len(column.levels)
            parts.append(one_hot(raw[:, place], units, size, marks_gaps=column.marks_gaps))
        return torch.cat(parts, dim=1)

    def inverse(self, x: Tensor) -> Tensor:
        """Codes ``(N, C)``: of a category the likeliest level, of a date its linear part."""
        raw = x.new_zeros(len(x), len(self.columns))
        if self.places:
            raw[:, self.places] = self.numbers.inverse(x[:, self.linear_units])
        for place, units, names in self.level_groups():
            likeliest = x[:, units].argmax(dim=1)
            raw[:, place] = names.to(x)[likeliest]
        return raw

    def level_groups(self) -> list[tuple[int, slice, Tensor]]:
        """For each category: its place in the codes, its units, and for each unit the code that stands for it.

        A unit's code is that of the first of its levels; of the unit that all others share, one past the last level,
        and of that of gaps NaN.
        """
        groups, start, first = [], self.n_numeric, 0
        for place, size in self.columns.groups:
            n = len(self.columns.modelled[place].levels)
            if n:
                codes = torch.full((size,), float(n))
                own = self.level_units[first : first + n].long().cpu()
                for code in reversed(range(n)):
                    if own[code] < size - 1 - self.columns.modelled[place].marks_gaps:
                        codes[own[code]] = code
                if self.columns.modelled[place].marks_gaps:
                    codes[-1] = math.nan
                groups.append((place, slice(start, start + size), codes))
            start, first = start + size, first + n
        return groups

    def check_values(self) -> None:
        first = 0
        for place, size in self.columns.groups:
            column = self.columns.modelled[place]
            units = self.level_units[first : first + len(column.levels)]
            first += len(column.levels)
            if ((units < 0) | (units > size - 1 - column.marks_gaps) | (units != units.round())).any():
                raise ValueError(f"its scaling has a level of {column.name!r} in a place that there is not")

    def to_features(self, shares: Tensor) -> Tensor:
        of_units = torch.tensor(self.columns.of_units, device=shares.device)
        return shares.new_zeros(len(shares), len(self.columns)).index_add_(1, of_units, shares)

    def spread(self, mean: Tensor, variance: Tensor) -> Tensor:
        """The standard deviation; for a category the probability of all levels but the likeliest."""
        spread = mean.new_zeros(len(mean), len(self.columns)).double()
        if self.places:
            linear = self.linear_units
            spread[:, self.places] = self.numbers.spread(mean[:, linear], variance[:, linear])
        for place, units, _ in self.level_groups():
            spread[:, place] = 1 - mean[:, units].double().amax(dim=1)
        return spread


def one_hot(codes: Tensor, units: Tensor, size: int, *, marks_gaps: bool) -> Tensor:
    """Codes ``(N,)`` to the units ``(N, size)`` of levels; with no level, of values that are there, and gaps."""
    known = torch.cat([units, units.new_full((1,), size - 1 - marks_gaps)])  # the last for all other codes
    is_gap = torch.isnan(codes)
    place = known[torch.nan_to_num(codes).clamp(0, len(units)).long()]
    if marks_gaps:
        place = torch.where(is_gap, size - 1, place)
    x = torch.zeros(len(codes), size, dtype=codes.dtype, device=codes.device).scatter_(1, place[:, None], 1.0)
    return x if marks_gaps else x.masked_fill_(is_gap[:, None], 0.0)
