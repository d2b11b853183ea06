"""What buffers from a file must be: of the declared names and shapes, and positive where a module divides by them."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn


def check_shapes(
    buffers: Mapping[str, Tensor], declared: Mapping[str, tuple[str, ...]], what: str, **sizes: int
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
    sizes
        Known sizes. Any other size may have any value, the same one wherever its name stands.

    Raises
    ------
    ValueError
        If there are other names or shapes.
    """
    shapes = {name: tuple(buffer.shape) for name, buffer in buffers.items()}
    fits = shapes.keys() == declared.keys() and all(
        len(shape) == len(declared[name])
        and all(sizes.setdefault(letter, size) == size for letter, size in zip(declared[name], shape, strict=True))
        for name, shape in shapes.items()
    )
    if not fits:
        raise ValueError(f"{what} has no buffers of shapes {shapes}")


def check_positive(module: nn.Module) -> None:
    """Refuse a module with values of at most zero, or NaN, in a buffer that it or a part declares to be positive.

    Classes declare such buffers in ``positive_buffers``.

    Raises
    ------
    ValueError
        Naming the first buffer at fault.
    """
    for path, part in module.named_modules():
        for name in sorted(getattr(part, "positive_buffers", ())):
            if not (getattr(part, name) > 0).all():
                raise ValueError(f"its {'.'.join(filter(None, (path, name)))} must be above 0")
