#!/usr/bin/env python3
"""Unpacks the NVIDIA driver's user libraries from Debian's packages, for tests/driver.

    python3 tests/driver/fetch.py [FOLDER]        (default: target/nvidia-driver)

Every suite of SUITES gives one folder FOLDER/<version> with libcuda.so.1 and libnvidia-ml.so.1. Nothing is
installed. Packages are checked against the checksums of the archive's index. Exit status 3: the archive cannot
be reached.
"""
import hashlib
import io
import lzma
import os
import pathlib
import sys
import tarfile
import urllib.error
import urllib.request

ARCHIVE = os.environ.get("DEBIAN_ARCHIVE", "http://deb.debian.org/debian")
SUITES = ["bookworm", "trixie"]
PACKAGES = ["libcuda1", "libnvidia-ml1"]
LIBRARIES = ("libcuda.so.", "libnvidia-ml.so.")


def get(path):
    with urllib.request.urlopen(f"{ARCHIVE}/{path}", timeout=60) as answer:
        return answer.read()


def index(suite):
    """Package name -> fields, of those that are wanted."""
    text = lzma.decompress(get(f"dists/{suite}/non-free/binary-amd64/Packages.xz")).decode()
    found = {}
    for entry in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in entry.splitlines() if ": " in line and line[0] != " ")
        if fields.get("Package") in PACKAGES:
            found[fields["Package"]] = fields
    return found


def data(package):
    """The tar archive inside a .deb, which is an `ar` archive."""
    at = 8
    while at < len(package):
        header = package[at:at + 60]
        name, size = header[:16].decode().strip(), int(header[48:58])
        at += 60
        if name.startswith("data.tar"):
            return tarfile.open(fileobj=io.BytesIO(package[at:at + size]))
        at += size + size % 2
    raise SystemExit("a package has no data.tar")


def main():
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "target/nvidia-driver")
    for suite in SUITES:
        fields = index(suite)
        missing = [name for name in PACKAGES if name not in fields]
        if missing:
            raise SystemExit(f"{suite} has no {', '.join(missing)}")
        version = fields[PACKAGES[0]]["Version"].split("-")[0]
        into = folder / version
        into.mkdir(parents=True, exist_ok=True)
        for name in PACKAGES:
            package = get(fields[name]["Filename"])
            if hashlib.sha256(package).hexdigest() != fields[name]["SHA256"]:
                raise SystemExit(f"{name} of {suite} does not have the checksum of the index")
            with data(package) as archive:
                for member in archive:
                    base = os.path.basename(member.name)
                    if member.isfile() and base.startswith(LIBRARIES):
                        soname = base.split(".so.")[0] + ".so.1"
                        (into / soname).write_bytes(archive.extractfile(member).read())
        print(f"{suite}: driver {version} in {into}: {', '.join(sorted(p.name for p in into.iterdir()))}")


if __name__ == "__main__":
    try:
        main()
    except (urllib.error.URLError, OSError) as error:
        print(f"{ARCHIVE} cannot be used: {error}")
        sys.exit(3)
