"""README.md as a package index shows it: an index has no files of the repository, so links lead to the repository."""

import re
from pathlib import Path

from setuptools import setup

REPOSITORY = "https://github.com/resnet-keras/resnet_keras"


def absolute(text: str) -> str:
    """Returns a page of the repository's root with absolute links, and with pictures that are files, not pages."""
    text = re.sub(r"(!\[[^\]]*\]\()(?!https?:|#)", rf"\g<1>{REPOSITORY}/raw/main/", text)
    return re.sub(r"(\]\()(?!https?:|#)", rf"\g<1>{REPOSITORY}/blob/main/", text)


setup(
    long_description=absolute((Path(__file__).parent / "README.md").read_text(encoding="utf-8")),
    long_description_content_type="text/markdown",
)
