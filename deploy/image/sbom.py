"""Generator of the software bill of materials of an environment (CycloneDX JSON): `sbom.py ENVIRONMENT FILE`.

The environment is the image's /opt/runward, copied out of it; it is read, and nothing in it is run. An environment of
its own with a path to the other's packages stands in for it, since the other's interpreter may not run here.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path
from tempfile import TemporaryDirectory


def main(environment: str, target: str) -> None:
    """Write the document. Raises CalledProcessError if the tool fails; its errors go to standard error."""
    [packages] = Path(environment).resolve().glob("lib/python*/site-packages")
    with TemporaryDirectory() as folder:
        venv.create(folder, with_pip=False, symlinks=True)
        [own] = Path(folder).glob("lib/python*/site-packages")
        (own / "other.pth").write_text(f"{packages}\n")
        subprocess.run(
            [
                *(sys.executable, "-m", "cyclonedx_py", "environment", "--output-reproducible"),
                *("--mc-type", "application", "--output-file", str(Path(target).resolve()), folder),
            ],
            check=True,
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
