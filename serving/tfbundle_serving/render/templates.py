"""Where the files of docker/ are: beside this module in an installed package, at the root in a clone."""

from __future__ import annotations

from pathlib import Path

from tfbundle_serving.apis.errors import NotFound

#: Where the wheel has them (hatch's force-include), and where a clone does.
_PLACES = (Path(__file__).with_name("docker"), Path(__file__).parents[3] / "docker")


def template(name: str) -> Path:
    """Find a file or folder of docker/ by its path below it.

    Raises:
        NotFound: It is in neither place, so the installation is not whole.
    """
    for place in _PLACES:
        if (place / name).exists():
            return place / name
    raise NotFound(f"docker/{name} is missing from this installation of tfbundle; install it again")
