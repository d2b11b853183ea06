"""The data sets known by name: what they are, where they come from, and their hashes; needs no NumPy."""

from __future__ import annotations

from dataclasses import dataclass

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


@dataclass(frozen=True)
class Named:
    """A data set known by name.

    Parameters
    ----------
    about
        One line for people.
    mirrors
        Addresses that a file's name plus ``.gz`` is appended to, in order of preference. Empty: built in.
    sha256
        File name to hash.
    hash_of_gzip
        Whether the hash is of the compressed file rather than of its content.
    """

    about: str
    mirrors: tuple[str, ...] = ()
    sha256: dict[str, str] | None = None
    hash_of_gzip: bool = False


def hashes(*values: str) -> dict[str, str]:
    """Hashes by file name, in the order of `FILES`."""
    return dict(zip(FILES, values, strict=True))


NAMED: dict[str, Named] = {
    "mnist": Named(
        about="handwritten digits, 28x28 grey, 60,000 to train and 10,000 to test, classes 0 to 9",
        mirrors=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        sha256=hashes(
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    ),
    "fashion-mnist": Named(
        about="articles of clothing, 28x28 grey, 60,000 and 10,000, classes 0 to 9",
        mirrors=(
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
            "https://fashion-mnist.s3.eu-central-1.amazonaws.com/",
        ),
        sha256=hashes(
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        ),
        hash_of_gzip=True,
    ),
    "kmnist": Named(
        about="cursive Japanese characters, 28x28 grey, 60,000 and 10,000, classes 0 to 9",
        mirrors=("https://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
        sha256=hashes(
            "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
            "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
            "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
            "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
        ),
        hash_of_gzip=True,
    ),
    "digits": Named(about="scikit-learn's handwritten digits, 8x8 grey, 1,797 in all, classes 0 to 9"),
}
