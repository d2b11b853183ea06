"""What buffers from a file must be: of the declared names and shapes, and positive where a module divides by them.

A size that the module does not know otherwise has a limit, the largest that a fit writes. So a small file cannot hold
what takes huge memory to score with.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn


def check_shapes(
    buffers: Mapping[str, Tensor],
    declared: Mapping[str, tuple[str, ...]],
    what: str,
    limits: Mapping[str, int],
    **sizes: int,
) -> None:
    """Compare buffers with declared shapes, such as ``{"means": ("K", "latent_dim")}``.

    Parameters
    ----------
    buffers
        By name.
    declared
        Their shapes in sizes by name.
    what
        What they are of, for the message.
    limits
        The largest value of each size that is not known; it has the same one wherever its name stands.
    sizes
        Known sizes.

    Raises
    ------
    ValueError
        If there are other names or shapes, or a size is beyond its limit or has none.
    """
    known = set(sizes)
    shapes = {name: tuple(buffer.shape) for name, buffer in buffers.items()}
    fits = shapes.keys() == declared.keys() and all(
        len(shape) == len(declared[name])
        and all(sizes.setdefault(letter, size) == size for letter, size in zip(declared[name], shape, strict=True))
        for name, shape in shapes.items()
    )
    if not fits:
        raise ValueError(f"{what} has no buffers of shapes {shapes}")
    for letter in {letter for names in declared.values() for letter in names} - known:
        if letter not in limits:
            raise ValueError(f"{what} declares no limit of its size {letter}")
        if sizes[letter] > limits[letter]:
            raise ValueError(f"{what} has at most {limits[letter]:,} for its size {letter}, got {sizes[letter]:,}")


def check_values(module: nn.Module) -> None:
    """Refuse a module with values that no fit writes.

    These are values of at most zero, or NaN, in a buffer that it or a part declares in ``positive_buffers``, and what a
    part's own ``check_values`` refuses.

    Raises
    ------
    ValueError
        Naming the first buffer at fault.
    """
    for path, part in module.named_modules():
        for name in sorted(getattr(part, "positive_buffers", ())):
            value = getattr(part, name)
            if value is not None and not (value > 0).all():
                raise ValueError(f"its {'.'.join(filter(None, (path, name)))} must be above 0")
        check_own = getattr(part, "check_values", None)
        if check_own is not None:
            check_own()
